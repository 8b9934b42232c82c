//! A condition that one task reports and others check.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A condition, shared by its clones. Its ordering is relaxed: it must not be used to publish data.
#[derive(Debug, Clone, Default)]
pub struct Flag(Arc<AtomicBool>);

impl Flag {
    /// A flag that starts as `value`.
    pub fn new(value: bool) -> Self {
        Self(Arc::new(AtomicBool::new(value)))
    }

    /// Reports whether the condition holds.
    pub fn set(&self, value: bool) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Whether the condition holds.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
