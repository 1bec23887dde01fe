//! What each rank gets when all have come: pure functions of their requests.

use super::reduce::reduce;
use super::wire::{Kind, Request};

/// One rank's request with its bytes.
pub(crate) type Part = (Request, Vec<u8>);

/// The bytes that each rank gets, in their order; the text says where ranks do not agree.
///
/// `parts` has every rank of a collective, or sender and receiver of a message.
pub(crate) fn settle(parts: &[Part]) -> Result<Vec<Vec<u8>>, String> {
    let (first, data) = &parts[0];
    if let Kind::Send { .. } = first.kind {
        agree(parts, |request| (request.data_type, request.count))?;
        return Ok(vec![Vec::new(), data.clone()]);
    }
    agree(parts, |request| (request.kind, request.data_type, request.count))?;
    let ranks: Vec<&[u8]> = parts.iter().map(|(_, bytes)| bytes.as_slice()).collect();
    let to_all = |bytes: Vec<u8>| vec![bytes; parts.len()];
    let to_root = |bytes: Vec<u8>, root: usize| {
        let mut all = to_all(Vec::new());
        *all.get_mut(root).ok_or_else(|| format!("root {root} of {} ranks", parts.len()))? = bytes;
        Ok(all)
    };
    match first.kind {
        Kind::AllReduce(operator) => Ok(to_all(reduce(first.data_type, operator, &ranks))),
        Kind::Reduce { operator, root } => to_root(reduce(first.data_type, operator, &ranks), root),
        Kind::ReduceScatter(operator) => {
            let sum = reduce(first.data_type, operator, &ranks);
            let each = first.count * first.data_type.bytes();
            Ok((0..parts.len()).map(|rank| sum[rank * each..][..each].to_vec()).collect())
        }
        Kind::AllGather => Ok(to_all(ranks.concat())),
        Kind::Broadcast { root } => {
            let bytes = ranks.get(root).ok_or_else(|| format!("root {root} of {} ranks", parts.len()))?;
            Ok(to_all(bytes.to_vec()))
        }
        Kind::Send { .. } | Kind::Receive { .. } => Err("a message needs a sender and a receiver".to_owned()),
    }
}

fn agree<T: PartialEq>(parts: &[Part], what: impl Fn(&Request) -> T) -> Result<(), String> {
    let first = &parts[0].0;
    match parts.iter().position(|(request, _)| what(request) != what(first)) {
        None => Ok(()),
        Some(other) => {
            let say = |r: &Request| format!("{:?} of {} x {:?}", r.kind, r.count, r.data_type);
            Err(format!("one rank calls {}, another {}", say(first), say(&parts[other].0)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nccl::reduce::{DataType, Operator};
    use crate::nccl::wire::Meeting;

    fn part(kind: Kind, count: usize, bytes: &[u8]) -> Part {
        let meeting = Meeting::All { number: 0 };
        (Request { id: 0, meeting, kind, data_type: DataType::U8, count }, bytes.to_vec())
    }

    fn settled(kind: Kind, count: usize, ranks: [&[u8]; 2]) -> [Vec<u8>; 2] {
        let parts = ranks.map(|bytes| part(kind, count, bytes));
        settle(&parts).expect("they agree").try_into().expect("two ranks")
    }

    #[test]
    fn every_collective_gives_each_rank_its_own() {
        let sum = Operator::Sum;
        assert_eq!(settled(Kind::AllReduce(sum), 2, [&[1, 2], &[3, 4]]), [vec![4, 6], vec![4, 6]]);
        assert_eq!(settled(Kind::ReduceScatter(sum), 1, [&[1, 2], &[3, 4]]), [vec![4], vec![6]]);
        assert_eq!(settled(Kind::AllGather, 1, [&[1], &[3]]), [vec![1, 3], vec![1, 3]]);
        assert_eq!(settled(Kind::Broadcast { root: 1 }, 1, [&[], &[3]]), [vec![3], vec![3]]);
        let to_last = Kind::Reduce { operator: sum, root: 1 };
        assert_eq!(settled(to_last, 1, [&[1], &[3]]), [vec![], vec![4]]);
    }

    #[test]
    fn ranks_that_disagree_are_told_how() {
        let parts = [part(Kind::AllGather, 1, &[1]), part(Kind::AllGather, 2, &[1, 2])];
        assert!(settle(&parts).expect_err("counts differ").contains("2 x U8"));
        let message = [part(Kind::Send { to: 1 }, 2, &[1, 2]), part(Kind::Receive { from: 0 }, 1, &[])];
        assert!(settle(&message).is_err());
    }
}
