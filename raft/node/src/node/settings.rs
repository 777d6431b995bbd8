//! What a node is told when it is opened.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use openraft::{Config, SnapshotPolicy};

/// How a node is opened.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where its data are.
    pub data_dir: PathBuf,
    /// Where it listens for peers; TCP here, UDP for beats is the daemon's.
    pub listen: SocketAddr,
    /// Between two heartbeats of the leader. 75 ms.
    pub heartbeat: Duration,
    /// A follower waits at least this long for its leader before it stands for election. 100 ms.
    pub election_min: Duration,
    /// ... and at most this long. 150 ms; equal to the lease, so that one silence ends both.
    pub election_max: Duration,
    /// Entries between two snapshots. 1,000: about 200 KB of log.
    pub snapshot_every: u64,
    /// Entries kept behind the last snapshot, for followers that are a little behind. 200.
    pub keep_behind: u64,
    /// How long a proposal or a linearizable read may take before it is given up. 5 s.
    pub patience: Duration,
}

/// Why settings do not fit together.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(String);

impl Settings {
    /// The `lan` profile: any load on bare metal.
    #[must_use]
    pub fn new(data_dir: PathBuf, listen: SocketAddr) -> Self {
        Self {
            data_dir,
            listen,
            heartbeat: Duration::from_millis(75),
            election_min: Duration::from_millis(100),
            election_max: Duration::from_millis(150),
            snapshot_every: 1_000,
            keep_behind: 200,
            patience: Duration::from_secs(5),
        }
    }

    /// The same as openraft wants it.
    ///
    /// # Errors
    /// [`SettingsError`] if a follower would take its leader for dead between two heartbeats.
    pub fn config(&self, cluster: &[u8; 16]) -> Result<Arc<Config>, SettingsError> {
        let (heartbeat, min, max) = (self.heartbeat, self.election_min, self.election_max);
        if heartbeat.is_zero() || heartbeat * 4 > min * 3 || min >= max {
            return Err(SettingsError(format!(
                "heartbeat {heartbeat:?}, election_min {min:?} and election_max {max:?} do not fit: a heartbeat must \
                 be at most three quarters of election_min, and election_min below election_max"
            )));
        }
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let config = Config {
            cluster_name: hex::encode(cluster),
            heartbeat_interval: millis(heartbeat),
            election_timeout_min: millis(min),
            election_timeout_max: millis(max),
            // The largest on a link of 100 Mbit/s; a peer that is lost meanwhile is noticed long before (`peer::link`).
            install_snapshot_timeout: 60_000,
            // A new leader searches the whole log for what each follower has, a payload or half of the rest a round
            // trip: a short log and large payloads keep that at two.
            max_payload_entries: 512,
            replication_lag_threshold: self.snapshot_every * 2,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_every),
            max_in_snapshot_log_to_keep: self.keep_behind,
            enable_pre_vote: Some(true),
            enable_leader_restore: Some(false),
            broadcast_submitted_on_append: Some(true),
            ..Config::default()
        };
        config
            .validate()
            .map(Arc::new)
            .map_err(|error| SettingsError(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_profile_is_valid_and_a_slow_heartbeat_is_refused_with_the_values() {
        let mut settings = Settings::new("/nowhere".into(), ([127, 0, 0, 1], 7400).into());
        settings.config(&[0; 16]).unwrap();
        settings.heartbeat = Duration::from_millis(80);
        let error = settings.config(&[0; 16]).unwrap_err().to_string();
        assert!(error.contains("80ms") && error.contains("100ms"), "{error}");
    }
}
