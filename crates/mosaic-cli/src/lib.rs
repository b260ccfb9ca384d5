//! The operator's tool of a platform.
//!
//! A library with a program of one line, so that what the tool makes (certificates, above all) can be made by tests
//! without a process. Commands say on standard output what they have done, on standard error what was wrong.

mod args;
pub mod ca;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use args::{Args, CaCommand, Command};

/// Runs the tool with the arguments of the process.
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print(); // nobody is left to be told
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let runtime = mosaic_core::Runtime::system();
    let outcome = match args.command {
        Command::Ca { command } => match command {
            CaCommand::Init(init) => ca::init(&init.ca.dir, init.days, init.existing(), runtime.now()),
            CaCommand::Issue(issue) => ca::issue(&issue.ca.dir, &issue.order(), issue.existing(), runtime.now()),
            CaCommand::Rotate(rotate) if rotate.finish => {
                ca::finish_rotation(&rotate.ca.dir, rotate.existing(), runtime.now())
            }
            CaCommand::Rotate(rotate) => ca::rotate(&rotate.ca.dir, rotate.days, runtime.now()),
        },
    };
    match outcome {
        Ok(said) => {
            let _ = writeln!(std::io::stdout(), "{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "mosaic: {error}");
            ExitCode::FAILURE
        }
    }
}
