//! Settings of the interaction service.

use std::time::Duration;

mosaic::config! {
    /// Likes, collections and reads.
    pub struct InteractionConfig in "interaction" {
        /// Likes and collections that wait for their transaction; more are refused.
        pub queue_max: usize = "10000",
        /// Likes and collections in one transaction.
        pub batch_max: usize = "500",
        /// How long counters are cached; a change removes them earlier.
        pub cached_for: Duration = "30s",
        /// Reads counted in one transaction.
        pub reads_batch_max: usize = "2000",
        /// Fewer, if the first of them has waited so long.
        pub reads_wait: Duration = "500ms",
    }
}
