//! Reports what ends on its own, and what follows from that.

use std::path::Path;
use std::time::Duration;

use adtrack_runtime::outln;
use local_stack::{Stack, stack::Ended};

/// A server that ends again and again, such as one for which there is no memory, is not started more often.
const PAUSE: Duration = Duration::from_secs(1);

/// Watches the stack's processes. Never returns.
///
/// The tracker stays away, so that somebody can start another one by hand. Redis is started again on its port,
/// and is empty then: that is what ElastiCache does with a node that fails.
pub(crate) async fn run(stack: &mut Stack, folder: &Path) {
    loop {
        let (part, status) = stack.wait_for_end().await;
        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        match part {
            Ended::Tracker => {
                let log = folder.join("logs/tracker.log");
                outln!("\nThe tracker ended ({status}); its log is {}.", log.display());
            }
            Ended::Redis => restart_redis(stack, &status, folder).await,
        }
    }
}

async fn restart_redis(stack: &mut Stack, status: &str, folder: &Path) {
    outln!(
        "\nredis-server ended ({status}); its log is {}.",
        folder.join("redis/redis.log").display()
    );
    tokio::time::sleep(PAUSE).await;
    match stack.redis.start_again().await {
        Ok(()) => {
            outln!(
                "It runs again, empty. The tracker still has the programs in its memory; it responds with 503 \
                 core_data_unavailable to all others until core data is there again."
            );
            outln!("  the samples:  curl -X POST $MANAGEMENT_URL/cache/fill");
            outln!("  your own:     publish it again (core-data publish)");
        }
        Err(error) => {
            outln!("It cannot be started again: {error}. The stack keeps running without Redis.");
        }
    }
}
