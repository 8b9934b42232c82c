//! Core data of the machine: the only writer of its stream. Changes and deletes programs, and feeds all of
//! them again after Redis has lost them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use adtrack_proto::keys;
use local_stack::stack::CORE_DATA_STREAM;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::rig::Rig;

pub const PROGRAMS: u64 = 20;
/// Programs from this one on are deleted now and then.
const FIRST_DELETABLE: u64 = 14;
const PAUSE: Duration = Duration::from_millis(150);
/// How long Redis may take to have what was fed.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Sets the mark that Redis has core data if it holds as many programs as were fed, in one step, because Redis
/// may lose them at any time.
const MARK_LOADED: &str = "local keys = redis.call('KEYS', 'program:*')
    if #keys < tonumber(ARGV[1]) then return 0 end
    redis.call('SET', KEYS[1], ARGV[1])
    return 1";

/// What was last fed of a program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FedProgram {
    pub version: u64,
    pub is_deleted: bool,
    /// Whether it was deleted at any time since the last epoch's end.
    pub was_deleted: bool,
}

#[derive(Default)]
pub struct Feed {
    programs: Mutex<BTreeMap<u64, FedProgram>>,
    reload: AtomicBool,
}

pub fn name(program: u64, version: u64) -> String {
    format!("p{program} v{version}")
}

impl Feed {
    /// What was last fed of `program`. While a record is on its way, it may already be in use.
    pub fn latest(&self, program: u64) -> FedProgram {
        self.programs.lock().unwrap().get(&program).copied().unwrap_or_default()
    }

    /// Asks for all programs to be fed again, because Redis has lost them.
    pub fn request_reload(&self) {
        self.reload.store(true, Ordering::Relaxed);
    }

    pub fn begin_epoch(&self) {
        for fed in self.programs.lock().unwrap().values_mut() {
            fed.was_deleted = fed.is_deleted;
        }
    }

    /// Feeds until `stop`, and then until Redis has everything.
    pub async fn run(
        self: Arc<Self>,
        rig: Arc<Rig>,
        mut rng: fastrand::Rng,
        stop: Arc<AtomicBool>,
    ) {
        let mut is_marked = true;
        let mut give_up = None;
        loop {
            let stops = stop.load(Ordering::Relaxed);
            if self.reload.swap(false, Ordering::Relaxed) {
                is_marked = false;
                for program in 0..PROGRAMS {
                    self.publish(&rig, program, self.latest(program).is_deleted).await;
                }
            }
            if !is_marked {
                is_marked = self.mark_if_loaded(&rig).await;
            }
            if stops && is_marked && !self.reload.load(Ordering::Relaxed) {
                return;
            }
            if !stops {
                let program = rng.u64(0..PROGRAMS);
                let is_deleted = program >= FIRST_DELETABLE && rng.u8(0..3) == 0;
                self.publish(&rig, program, is_deleted).await;
            } else if Instant::now() > *give_up.get_or_insert(Instant::now() + RELOAD_TIMEOUT) {
                return rig.report("Redis does not have what was fed");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn publish(&self, rig: &Rig, program: u64, is_deleted: bool) {
        let version = {
            let mut programs = self.programs.lock().unwrap();
            let fed = programs.entry(program).or_default();
            fed.version += 1;
            fed.is_deleted = is_deleted;
            fed.was_deleted |= is_deleted;
            fed.version
        };
        let id = format!("p{program}");
        let record = if is_deleted {
            json!({"programId": id, "deleted": true})
        } else {
            json!({"programId": id, "programName": name(program, version), "checksum": "c",
                "customerId": program, "customerName": "customer", "valid": true,
                "landingUrl": "https://shop.example/?click={click_id}"})
        };
        rig.put(CORE_DATA_STREAM, &id, record.to_string().into_bytes()).await;
    }

    /// Does what `core-data verify` and `core-data mark-loaded` do after a publish of all programs.
    async fn mark_if_loaded(&self, rig: &Rig) -> bool {
        let connection = rig.stack.lock().await.redis.connection().await;
        let Ok(mut connection) = connection else { return false };
        let mut hashes = redis::pipe();
        for program in 0..PROGRAMS {
            let key = format!("program:{{p{program}}}");
            hashes.cmd("HMGET").arg(key).arg("programName").arg("deleted");
        }
        let stored: redis::RedisResult<Vec<(Option<String>, Option<String>)>> =
            hashes.query_async(&mut connection).await;
        let is_loaded = stored.is_ok_and(|stored| {
            stored.into_iter().zip(0..).all(|((stored_name, deleted), program)| {
                let fed = self.latest(program);
                match fed.is_deleted {
                    true => deleted.as_deref() == Some("true"),
                    false => stored_name == Some(name(program, fed.version)),
                }
            })
        });
        let mut mark = redis::cmd("EVAL");
        mark.arg(MARK_LOADED).arg(1).arg(keys::LOADED).arg(PROGRAMS);
        is_loaded && mark.query_async(&mut connection).await.unwrap_or_default()
    }
}

/// The program's version that a response or a row shows; `None` if it shows none that was ever fed.
pub fn version(feed: &Feed, program: u64, program_name: &str) -> Option<u64> {
    let version = program_name.strip_prefix(&format!("p{program} v"))?.parse().ok()?;
    (1..=feed.latest(program).version).contains(&version).then_some(version)
}

/// The program's name in a response.
pub fn name_in(body: &Value) -> Option<String> {
    body["programName"].as_str().map(ToOwned::to_owned)
}
