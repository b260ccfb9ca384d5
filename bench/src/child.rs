//! Processes that are measured from outside.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::report::Result;

/// This program again, serving one side; ended when dropped.
pub(crate) struct Served {
    child: Child,
    pub(crate) base: String,
}

impl Served {
    /// Starts `bench <arguments>` and waits for the line that says where it listens; its log goes nowhere.
    pub(crate) async fn start(arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().ok_or("a child with a pipe")?;
        let mut lines = BufReader::new(stdout).lines();
        let address = lines.next_line().await?.ok_or("the child ended before it listened")?;
        Ok(Self {
            child,
            base: format!("http://{address}"),
        })
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        self.child.id().ok_or_else(|| "the child has ended".into())
    }
}

/// Returns the processor time that a process has used.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    /// `USER_HZ`, which Linux promises to programs on every machine that it runs on today.
    const TICKS_A_SECOND: u64 = 100;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name may hold anything, so count from its end: utime and stime are the 14th and 15th of all fields.
    let (_, fields) = stat.rsplit_once(')').ok_or("a line that proc(5) describes")?;
    let ticks = |position: usize| {
        fields
            .split_whitespace()
            .nth(position)
            .and_then(|text| text.parse::<u64>().ok())
    };
    let ticks = ticks(11).zip(ticks(12)).map(|(user, system)| user + system);
    Ok(Duration::from_millis(ticks.ok_or("numbers")? * 1000 / TICKS_A_SECOND))
}

/// Returns the resident memory of a process in MB (10^6 bytes).
pub(crate) fn resident_mb(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .ok_or("VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024.0 / 1e6)
}

/// Builds the release binary of the platform and returns where it is: beside this program.
pub(crate) async fn platform() -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    let status = cargo
        .args(["build", "--quiet", "--release", "-p", "platform"])
        .status()
        .await?;
    if !status.success() {
        return Err("the platform does not build".into());
    }
    let program = std::env::current_exe()?.with_file_name("platform");
    if program.is_file() {
        Ok(program)
    } else {
        Err(format!("{} is missing", program.display()).into())
    }
}
