//! A slot for one value that many threads read and few replace.

use arc_swap::{ArcSwapOption, Guard};
use std::sync::Arc;

/// Holds at most one value. Reading it takes no lock; the replaced value is handed back, for the caller to drop.
pub(crate) struct Slot<T>(ArcSwapOption<T>);

impl<T> Slot<T> {
    pub(crate) fn empty() -> Slot<T> {
        Slot(ArcSwapOption::empty())
    }

    pub(crate) fn replace(&self, value: Arc<T>) -> Option<Arc<T>> {
        self.0.swap(Some(value))
    }

    pub(crate) fn take(&self) -> Option<Arc<T>> {
        self.0.swap(None)
    }

    /// Empties the slot if it still holds this value.
    pub(crate) fn remove(&self, value: &Arc<T>) {
        self.0.compare_and_swap(&Some(value.clone()), None);
    }

    pub(crate) fn get(&self) -> Option<Arc<T>> {
        self.0.load_full()
    }

    /// Guards the value without touching its reference count. A guard keeps a replaced value alive; drop it soon.
    pub(crate) fn load(&self) -> Guard<Option<Arc<T>>> {
        self.0.load()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_hands_back_what_it_held() {
        let slot = Slot::empty();
        assert!(slot.get().is_none());
        assert!(slot.take().is_none());
        assert!(slot.load().is_none());
        assert!(slot.replace(Arc::new(1)).is_none());
        assert_eq!(slot.replace(Arc::new(2)).as_deref(), Some(&1));
        assert_eq!(slot.get().as_deref(), Some(&2));
        assert_eq!(slot.load().as_deref(), Some(&2));
        slot.remove(&Arc::new(2));
        assert_eq!(slot.get().as_deref(), Some(&2), "another value");
        assert_eq!(slot.take().as_deref(), Some(&2));
        assert!(slot.load().is_none());
        let three = Arc::new(3);
        assert!(slot.replace(three.clone()).is_none());
        slot.remove(&three);
        assert!(slot.load().is_none());
    }
}
