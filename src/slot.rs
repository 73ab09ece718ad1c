//! The process-wide slot behind the free functions of one side.

use arc_swap::{ArcSwapOption, Guard};
use once_cell::sync::OnceCell;
use std::sync::Arc;

/// Holds at most one value. Reading it takes no lock; what is replaced is handed back, to be dropped by the caller.
pub(crate) struct Slot<T> {
    cell: OnceCell<ArcSwapOption<T>>,
}

impl<T> Slot<T> {
    pub(crate) const fn new() -> Slot<T> {
        Slot {
            cell: OnceCell::new(),
        }
    }

    pub(crate) fn replace(&self, value: Arc<T>) -> Option<Arc<T>> {
        self.cell().swap(Some(value))
    }

    pub(crate) fn take(&self) -> Option<Arc<T>> {
        self.cell().swap(None)
    }

    pub(crate) fn get(&self) -> Option<Arc<T>> {
        self.cell().load_full()
    }

    /// Guards the value without touching its reference count. For a moment: what is replaced lives as long as its guards.
    pub(crate) fn load(&self) -> Guard<Option<Arc<T>>> {
        self.cell().load()
    }

    fn cell(&self) -> &ArcSwapOption<T> {
        self.cell.get_or_init(ArcSwapOption::empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_hands_back_what_it_held() {
        let slot = Slot::new();
        assert!(slot.get().is_none());
        assert!(slot.take().is_none());
        assert!(slot.load().is_none());
        assert!(slot.replace(Arc::new(1)).is_none());
        assert_eq!(slot.replace(Arc::new(2)).as_deref(), Some(&1));
        assert_eq!(slot.get().as_deref(), Some(&2));
        assert_eq!(slot.load().as_deref(), Some(&2));
        assert_eq!(slot.take().as_deref(), Some(&2));
        assert!(slot.load().is_none());
    }
}
