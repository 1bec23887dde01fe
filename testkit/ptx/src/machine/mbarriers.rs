//! Stand-in until the tensor branch lands.

/// Barriers.
#[derive(Clone, Debug, Default)]
pub struct Mbarriers;

impl Mbarriers {
    /// Whether somebody waits.
    pub fn waited_for(&self) -> bool {
        false
    }
}
