//! The platform as a program.

use std::process::ExitCode;

fn main() -> ExitCode {
    platform::app().main()
}
