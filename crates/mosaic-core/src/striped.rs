//! Values that threads do not share.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crossbeam_utils::CachePadded;

/// Most stripes, of 128 bytes and what a value has elsewhere.
const STRIPES_MAX: usize = 16;

/// One value for each thread, or for each few: a count that all processors write to in turn is a line of memory that they
/// wait for one another for, and so is the count of references of an `Arc` that every request clones (a striped counter,
/// `LongAdder` in Java).
///
/// Whoever reads looks at [`all`](Self::all) of them.
#[derive(Debug)]
pub struct Striped<T>(Box<[CachePadded<T>]>);

impl<T> Striped<T> {
    /// Makes as many values as threads may need: about twice as many as there are processors, at most 16.
    pub fn new(mut make: impl FnMut() -> T) -> Self {
        let n_processors = std::thread::available_parallelism().map_or(1, usize::from);
        // More than run at a time: threads that share a value wait for one another.
        let n = (2 * n_processors).next_power_of_two().min(STRIPES_MAX);
        Self((0..n).map(|_| CachePadded::new(make())).collect())
    }

    /// Returns the value of this thread.
    pub fn own(&self) -> &T {
        static N_THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static NUMBER: usize = N_THREADS.fetch_add(1, Relaxed);
        }
        // While a thread ends it has no number any more, and may share.
        let number = NUMBER.try_with(|number| *number).unwrap_or_default();
        // Their number is a power of two.
        &self.0[number & (self.0.len() - 1)]
    }

    /// Returns the values of all threads.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|value| &**value)
    }
}

impl<T: Default> Default for Striped<T> {
    fn default() -> Self {
        Self::new(T::default)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn what_many_threads_count_is_all_there() {
        const THREADS: u64 = 40;
        let counts = Striped::<AtomicU64>::default();
        std::thread::scope(|scope| {
            for n in 0..THREADS {
                let counts = &counts;
                scope.spawn(move || counts.own().fetch_add(n, Relaxed));
            }
        });
        assert_eq!(
            counts.all().map(|count| count.load(Relaxed)).sum::<u64>(),
            THREADS * (THREADS - 1) / 2
        );
    }

    #[test]
    fn a_thread_keeps_its_value() {
        let values = Striped::new(|| AtomicU64::new(0));
        values.own().store(7, Relaxed);
        assert_eq!(values.own().load(Relaxed), 7);
        assert_eq!(values.all().filter(|value| value.load(Relaxed) == 7).count(), 1);
    }
}
