//! Special registers by name.

use crate::machine::registers::Special;

/// The special register of a name; `None` for other names, an error for one that is not modelled.
pub(super) fn special(name: &str) -> Result<Option<Special>, String> {
    let axis = |letter: &str| match letter {
        "x" => Ok(0),
        "y" => Ok(1),
        "z" => Ok(2),
        _ => Err(format!("special register `{name}`")),
    };
    let Some(rest) = name.strip_prefix('%') else { return Ok(None) };
    Ok(Some(match rest.split_once('.') {
        Some(("tid", letter)) => Special::Tid(axis(letter)?),
        Some(("ntid", letter)) => Special::Ntid(axis(letter)?),
        // Clusters are not modelled: each has one block.
        Some(("ctaid" | "clusterid", letter)) => Special::Ctaid(axis(letter)?),
        Some(("nctaid" | "nclusterid", letter)) => Special::Nctaid(axis(letter)?),
        Some(("cluster_ctaid", _)) => Special::Zero,
        Some(("cluster_nctaid", _)) => Special::One,
        Some(_) => return Err(format!("special register `{name}`")),
        None => match rest {
            "laneid" => Special::Laneid,
            "warpid" => Special::Warpid,
            "nwarpid" => Special::Nwarpid,
            "lanemask_eq" => Special::LanemaskEq,
            "lanemask_le" => Special::LanemaskLe,
            "lanemask_lt" => Special::LanemaskLt,
            "lanemask_ge" => Special::LanemaskGe,
            "lanemask_gt" => Special::LanemaskGt,
            "dynamic_smem_size" => Special::DynamicShared,
            "cluster_ctarank" | "smid" => Special::Zero,
            "cluster_nctarank" | "nsmid" => Special::One,
            "clock" | "clock_hi" | "clock64" | "globaltimer" | "gridid" | "total_smem_size" => {
                return Err(format!("special register `{name}`"));
            }
            _ => return Ok(None),
        },
    }))
}
