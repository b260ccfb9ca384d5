//! How much of the processor this process uses, from what Linux says of it.
//!
//! In a control group (v2) with a quota the measure is the group's time against the quota, since that is where the kernel
//! stops it; else the process's own time against the cores. Reading `/proc` and `/sys` asks the kernel, not a disk: tens of
//! microseconds, five times a second, in a task of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Kernel ticks a second in `/proc/self/stat`: 100 on every architecture (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// See the module documentation.
#[derive(Debug)]
pub(super) struct CpuMeter {
    source: Source,
    last: Option<(Instant, Duration)>,
}

#[derive(Debug)]
enum Source {
    Group { stat: PathBuf, cores: f64 },
    Process { cores: f64 },
}

impl CpuMeter {
    /// Finds out what to measure; `None` where nothing can be.
    pub(super) fn find(now: Instant) -> Option<Self> {
        let group = fs::read_to_string("/proc/self/cgroup").ok();
        let path = group.as_deref().and_then(group_path);
        let limited = path.and_then(|path| limited_group(Path::new("/sys/fs/cgroup"), path));
        let source = match limited {
            Some((stat, cores)) => Source::Group { stat, cores },
            None => Source::Process {
                cores: std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64),
            },
        };
        let mut meter = Self { source, last: None };
        let used = meter.used()?;
        meter.last = Some((now, used));
        Some(meter)
    }

    /// Returns the share that was used since the last sample.
    pub(super) fn sample(&mut self, now: Instant) -> Option<f64> {
        let used = self.used()?;
        let (before, used_before) = self.last.replace((now, used))?;
        let cores = match self.source {
            Source::Group { cores, .. } | Source::Process { cores } => cores,
        };
        share(
            used.saturating_sub(used_before),
            now.saturating_duration_since(before),
            cores,
        )
    }

    fn used(&self) -> Option<Duration> {
        match &self.source {
            Source::Group { stat, .. } => group_time(&fs::read_to_string(stat).ok()?),
            Source::Process { .. } => process_time(&fs::read_to_string("/proc/self/stat").ok()?),
        }
    }
}

/// Returns which share of `cores` was `used` in `elapsed`; `None` if no time has passed.
fn share(used: Duration, elapsed: Duration, cores: f64) -> Option<f64> {
    let share = used.as_secs_f64() / (elapsed.as_secs_f64() * cores);
    share.is_finite().then_some(share)
}

/// Finds the nearest group from `path` up that has a quota; the kernel enforces them all.
fn limited_group(root: &Path, path: &str) -> Option<(PathBuf, f64)> {
    let own = root.join(path.trim_start_matches('/'));
    let groups = own.ancestors().take_while(|group| group.starts_with(root));
    groups.into_iter().find_map(|group| {
        let cores = quota(&fs::read_to_string(group.join("cpu.max")).ok()?)?;
        Some((group.join("cpu.stat"), cores))
    })
}

/// Reads the path of the group from `/proc/self/cgroup`.
fn group_path(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::"))
}

/// Reads `cpu.max`: quota and period in microseconds; `None` for `max`.
fn quota(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

/// Reads `usage_usec` of `cpu.stat`.
fn group_time(text: &str) -> Option<Duration> {
    let used = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
    used?.trim().parse().ok().map(Duration::from_micros)
}

/// Reads user and system time of `/proc/self/stat`; the name of the program, in brackets, may hold anything.
fn process_time(text: &str) -> Option<Duration> {
    let (_, fields) = text.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11).map(str::parse::<u32>);
    let (user, system) = (times.next()?.ok()?, times.next()?.ok()?);
    Some(TICK * user.saturating_add(system))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_linux_writes_is_read() {
        assert_eq!(group_path("0::/kubepods/pod1\n"), Some("/kubepods/pod1"));
        assert_eq!(group_path("12:cpu:/docker/1\n"), None);
        assert_eq!(quota("150000 100000\n"), Some(1.5));
        assert_eq!(quota("max 100000\n"), None);
        let stat = "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\n";
        assert_eq!(group_time(stat), Some(Duration::from_micros(1500)));
        let stat = "7 (a) (b c) S 1 7 7 0 -1 4194304 100 0 0 0 25 5 0 0 20 0 8 0 100 1 1";
        assert_eq!(process_time(stat), Some(Duration::from_millis(300)));
    }

    #[test]
    fn usage_is_a_share_of_what_may_be_used() {
        let ms = Duration::from_millis;
        assert_eq!(share(ms(375), ms(250), 2.0), Some(0.75));
        assert_eq!(share(ms(125), ms(500), 0.5), Some(0.5));
        assert_eq!(share(ms(50), Duration::ZERO, 2.0), None);
    }

    #[test]
    fn a_quota_higher_up_counts() {
        let root = std::env::temp_dir().join(format!("mosaic-guard-{}", std::process::id()));
        fs::create_dir_all(root.join("pod/box")).unwrap();
        fs::write(root.join("pod/cpu.max"), "50000 100000").unwrap();
        fs::write(root.join("pod/box/cpu.max"), "max 100000").unwrap();
        let found = limited_group(&root, "/pod/box");
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(found, Some((root.join("pod/cpu.stat"), 0.5)));
    }

    #[test]
    fn a_busy_process_is_seen_to_be_busy() {
        let clock = mosaic_core::Runtime::system();
        let Some(mut meter) = CpuMeter::find(clock.instant()) else {
            return;
        };
        let started = clock.instant();
        let mut sum = 0_u64;
        while clock.instant() - started < Duration::from_millis(100) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let busy = meter.sample(clock.instant()).unwrap();
        assert!(busy > 0.0, "{busy}");
    }
}
