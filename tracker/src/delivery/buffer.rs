//! Accepted events that wait for the stream, in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_queue::SegQueue;

use crate::track::{AcceptedEvent, EventSink, NotAccepted};

/// What an event takes beside its bytes: its place in the queue, id and allocation.
const OVERHEAD_BYTES: u64 = 64;

/// A queue without locks, bounded in bytes. Requests append and never wait; the producer drains it
/// on a tick, so that no request pays for a wake-up.
#[derive(Debug, Clone)]
pub struct EventBuffer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    queue: SegQueue<AcceptedEvent>,
    /// Of all events that are not acknowledged: those in the queue and those under way.
    bytes: AtomicU64,
    events: AtomicU64,
    max_bytes: u64,
    closed: AtomicBool,
}

impl EventBuffer {
    /// A buffer for up to `max_bytes` of events that are not acknowledged.
    pub fn new(max_bytes: u64) -> Self {
        Self {
            inner: Arc::new(Inner {
                queue: SegQueue::new(),
                bytes: AtomicU64::new(0),
                events: AtomicU64::new(0),
                max_bytes,
                closed: AtomicBool::new(false),
            }),
        }
    }

    /// The next event that waits. It counts until [`EventBuffer::acknowledged`].
    pub fn pop(&self) -> Option<AcceptedEvent> {
        self.inner.queue.pop()
    }

    /// Frees the place of `events`: the stream has them.
    pub fn acknowledged<'a>(&self, events: impl IntoIterator<Item = &'a AcceptedEvent>) {
        let (mut count, mut bytes) = (0, 0);
        for event in events {
            count += 1;
            bytes += size(event);
        }
        self.inner.events.fetch_sub(count, Ordering::Relaxed);
        self.inner.bytes.fetch_sub(bytes, Ordering::SeqCst);
    }

    /// Bytes that are accepted and not acknowledged.
    pub fn bytes(&self) -> u64 {
        self.inner.bytes.load(Ordering::SeqCst)
    }

    /// Events that are accepted and not acknowledged.
    pub fn events(&self) -> u64 {
        self.inner.events.load(Ordering::Relaxed)
    }

    /// Whether nine tenths are taken: time to tell a person.
    pub fn is_nearly_full(&self) -> bool {
        self.bytes() >= self.inner.max_bytes / 10 * 9
    }

    /// Takes no more events from here on.
    pub fn close(&self) {
        self.inner.closed.store(true, Ordering::SeqCst);
    }
}

fn size(event: &AcceptedEvent) -> u64 {
    event.bytes.len() as u64 + OVERHEAD_BYTES
}

impl EventSink for EventBuffer {
    fn accept(&self, event: AcceptedEvent) -> Result<(), NotAccepted> {
        let inner = &*self.inner;
        let size = size(&event);
        // Reserve first: two requests must not both take the last place, and whoever closes the
        // buffer sees, by its bytes, that this event is still to come.
        let reserved = inner.bytes.fetch_add(size, Ordering::SeqCst) + size;
        let refusal = if inner.closed.load(Ordering::SeqCst) {
            Some(NotAccepted::Closed)
        } else if reserved > inner.max_bytes {
            Some(NotAccepted::Full)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            inner.bytes.fetch_sub(size, Ordering::SeqCst);
            return Err(refusal);
        }
        inner.events.fetch_add(1, Ordering::Relaxed);
        inner.queue.push(event);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(length: usize) -> AcceptedEvent {
        AcceptedEvent { message_id: uuid::Uuid::nil(), bytes: vec![0; length].into() }
    }

    #[test]
    fn full_is_refused_until_something_is_acknowledged() {
        let buffer = EventBuffer::new(3 * (100 + OVERHEAD_BYTES));
        for _ in 0..3 {
            assert_eq!(buffer.accept(event(100)), Ok(()));
        }
        assert_eq!(buffer.accept(event(100)), Err(NotAccepted::Full));
        assert!(buffer.is_nearly_full());
        let popped = buffer.pop().unwrap();
        assert_eq!(buffer.accept(event(100)), Err(NotAccepted::Full), "popped is not acknowledged");
        buffer.acknowledged([&popped]);
        assert_eq!(buffer.accept(event(100)), Ok(()));
        assert_eq!((buffer.events(), buffer.bytes()), (3, 3 * (100 + OVERHEAD_BYTES)));
    }

    #[test]
    fn a_closed_buffer_takes_nothing_and_gives_what_it_has() {
        let buffer = EventBuffer::new(1_000);
        buffer.accept(event(1)).unwrap();
        buffer.close();
        assert_eq!(buffer.accept(event(1)), Err(NotAccepted::Closed));
        assert!(buffer.pop().is_some());
    }

    #[test]
    fn concurrent_requests_never_pass_the_bound() {
        let buffer = EventBuffer::new(100 * (10 + OVERHEAD_BYTES));
        let accepted: usize = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| (0..100).filter(|_| buffer.accept(event(10)).is_ok()).count())
                })
                .collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        assert_eq!((accepted, buffer.events()), (100, 100));
    }
}
