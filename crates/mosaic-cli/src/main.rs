//! `mosaic`, the operator's tool. Exit codes: 0 done, 1 failed, 2 called wrongly.

use std::process::ExitCode;

fn main() -> ExitCode {
    mosaic_cli::main()
}
