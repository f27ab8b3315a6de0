//! From the main loop to a sink's thread: the bytes of alerts, in order.
//!
//! Not a channel of the standard library: there the thread that is woken runs at once into the lock that its waker still
//! holds, and each alert pays for two more changes of threads.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Vec<u8>>,
    /// The reader sleeps.
    sleeps: bool,
    /// One of the two is gone.
    ended: bool,
}

impl Shared {
    /// Nothing in here panics while it holds the lock; were it to, the state is whole all the same.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        self.state().ended = true;
        self.changed.notify_one();
    }
}

/// The end that writes.
#[derive(Debug)]
pub struct Writer(Arc<Shared>);

/// The end that reads.
#[derive(Debug)]
pub struct Reader(Arc<Shared>);

/// Both ends. How much may wait is for the writer to say.
pub fn queue() -> (Writer, Reader) {
    let shared = Arc::<Shared>::default();
    (Writer(Arc::clone(&shared)), Reader(shared))
}

impl Writer {
    /// Hands bytes over; false where nobody reads any more.
    pub fn send(&self, bytes: Vec<u8>) -> bool {
        let mut state = self.0.state();
        if state.ended {
            return false;
        }
        state.waiting.push_back(bytes);
        let wake = std::mem::take(&mut state.sleeps);
        drop(state);
        if wake {
            self.0.changed.notify_one();
        }
        true
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Reader {
    /// The next bytes; `None` once the writer is gone and everything was read.
    pub fn receive(&self) -> Option<Vec<u8>> {
        let mut state = self.0.state();
        loop {
            if let Some(bytes) = state.waiting.pop_front() {
                return Some(bytes);
            }
            if state.ended {
                return None;
            }
            state.sleeps = true;
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_arrives_in_order_and_then_the_end() {
        let (writer, reader) = queue();
        let read = std::thread::spawn(move || std::iter::from_fn(|| reader.receive()).collect::<Vec<_>>());
        let sent: Vec<Vec<u8>> = (0..1_000u32).map(|i| i.to_ne_bytes().to_vec()).collect();
        for bytes in &sent {
            assert!(writer.send(bytes.clone()));
        }
        drop(writer);
        assert_eq!(read.join().unwrap(), sent);
    }

    #[test]
    fn what_nobody_will_read_is_said() {
        let (writer, reader) = queue();
        assert!(writer.send(vec![1]));
        drop(reader);
        assert!(!writer.send(vec![2]));
    }
}
