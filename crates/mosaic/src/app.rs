//! A program made of modules.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Subcommand};
use futures::future::LocalBoxFuture;
use mosaic_core::config::{Layers, Problem};
use mosaic_core::{Result, Runtime};

use crate::args::Args;
use crate::base::StartError;
use crate::operate::{self, ModuleCommands, Operate};
use crate::process::{Addresses, Process};
use crate::reload::Origin;
use crate::signals::Signals;
use crate::{Module, PlatformConfig};

/// Wires a module up; see [`Module`].
pub type Install = Box<dyn for<'a> Fn(&'a mut Module) -> LocalBoxFuture<'a, Result<()>>>;

/// A module by name.
pub(crate) struct Definition {
    pub(crate) name: &'static str,
    pub(crate) install: Install,
    /// Run in every process, whatever its list says.
    pub(crate) always: bool,
}

type Banner = fn(&Addresses) -> String;

/// Collects the modules of a program, then runs those that the configuration names.
pub struct App {
    name: &'static str,
    modules: Vec<Definition>,
    commands: Vec<ModuleCommands>,
    banner: Option<Banner>,
}

impl App {
    /// Makes a program without modules.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            modules: Vec::new(),
            commands: Vec::new(),
            banner: None,
        }
    }

    /// Adds a module, which is run where the configuration says so.
    #[must_use]
    pub fn module(self, name: &'static str, install: impl AsyncFn(&mut Module) -> Result<()> + 'static) -> Self {
        self.define(name, false, install)
    }

    /// Adds a module that every process runs: what follows the platform rather than serves it.
    #[must_use]
    pub fn everywhere(self, name: &'static str, install: impl AsyncFn(&mut Module) -> Result<()> + 'static) -> Self {
        self.define(name, true, install)
    }

    /// Adds the commands `program MODULE ...` by which people look after a module; see [`Operate`].
    #[must_use]
    pub fn commands<C: Operate + Subcommand + 'static>(mut self, module: &'static str) -> Self {
        self.commands.push(ModuleCommands::of::<C>(module));
        self
    }

    /// Sets what is printed to standard output in development mode when the process is ready.
    #[must_use]
    pub const fn banner(mut self, banner: Banner) -> Self {
        self.banner = Some(banner);
        self
    }

    fn define(
        mut self,
        name: &'static str,
        always: bool,
        install: impl AsyncFn(&mut Module) -> Result<()> + 'static,
    ) -> Self {
        let install = std::rc::Rc::new(install);
        let install: Install = Box::new(move |module| {
            let install = install.clone();
            Box::pin(async move { install(module).await })
        });
        self.modules.push(Definition { name, install, always });
        self
    }

    /// Runs the program with the arguments and variables of the process.
    ///
    /// Exit codes: 0 stopped by a signal, 2 bad configuration, 1 failed.
    pub fn main(self) -> ExitCode {
        self.main_with(std::env::args_os())
    }

    /// As [`App::main`], with other arguments; the first is the name of the program.
    pub fn main_with(self, arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
        let (args, operation) = match self.parse(arguments.into_iter()) {
            Ok(parsed) => parsed,
            Err(error) => {
                let _ = error.print(); // nobody is left to be told
                return if error.use_stderr() {
                    ExitCode::from(2)
                } else {
                    ExitCode::SUCCESS
                };
            }
        };
        // Each connection is a file; what the hard limit allows is ours. If not, the caps of the edge still hold.
        let _ = rlimit::increase_nofile_limit(u64::MAX);
        let origin = origin(&args);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        match runtime {
            Ok(runtime) => match operation {
                Some(operation) => runtime.block_on(operate(&origin, operation.as_ref(), args.json)),
                None => runtime.block_on(self.run(origin, args.print_config)),
            },
            Err(error) => fail(1, &[format!("cannot start the runtime: {error}")]),
        }
    }

    /// Reads the command line: how to run, or what to look after.
    fn parse(
        &self,
        arguments: impl Iterator<Item = OsString>,
    ) -> Result<(Args, Option<Box<dyn Operate>>), clap::Error> {
        // clap takes the program's name for help texts from the first argument.
        let arguments = std::iter::once(OsString::from(self.name)).chain(arguments.skip(1));
        let mut command = Args::command().subcommands(self.commands.iter().map(ModuleCommands::command));
        let matches = command.try_get_matches_from_mut(arguments)?;
        let mut args = Args::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
        if let Some(operation) = args.operation.take() {
            return Ok((args, Some(Box::new(operation))));
        }
        for commands in &self.commands {
            if let Some(operation) = commands.parse(&matches)? {
                return Ok((args, Some(operation)));
            }
        }
        Ok((args, None))
    }

    async fn run(self, origin: Origin, print_config: bool) -> ExitCode {
        let text = match read_file(&origin) {
            Ok(text) => text,
            Err(problem) => return fail(2, &[problem]),
        };
        let Ok(mut signals) = Signals::listen() else {
            return fail(1, &["cannot listen for signals".to_owned()]);
        };
        let settings = origin.layers(text.as_deref()).settings();
        let runtime = Runtime::system();
        let start = Process::start(&runtime, settings.clone(), &self.modules, Some(origin));
        let started = tokio::select! {
            started = start => started,
            () = signals.next() => return ExitCode::SUCCESS,
        };
        let process = match started {
            Ok(process) => process,
            Err(StartError::Config(problems)) => {
                let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
                return fail(2, &lines);
            }
            Err(StartError::Failed(error)) => return fail(1, &[describe(&error)]),
        };
        if print_config {
            print_lines(
                settings
                    .effective()
                    .iter()
                    .map(|key| format!("{} = {:?}  # {} ({})", key.key, key.value, key.doc, key.source)),
            );
            process.stop().await;
            return ExitCode::SUCCESS;
        }
        if let Some(banner) = self.banner.filter(|_| process.is_development()) {
            print_lines(std::iter::once(banner(process.addresses())));
        }
        signals.next().await;
        tracing::info!("stopping; a second signal ends the process at once");
        tokio::select! {
            () = process.stop() => ExitCode::SUCCESS,
            () = signals.next() => {
                tracing::warn!("second signal: not waiting for what is still running");
                std::process::exit(1)
            }
        }
    }

    /// Starts the program within this one; for tests.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(&self, runtime: &Runtime, layers: Layers) -> Result<Process, StartError> {
        Process::start(runtime, layers.settings(), &self.modules, None).await
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let modules: Vec<_> = self.modules.iter().map(|module| module.name).collect();
        f.debug_struct("App")
            .field("name", &self.name)
            .field("modules", &modules)
            .finish()
    }
}

fn origin(args: &Args) -> Origin {
    let named = args
        .config
        .clone()
        .or_else(|| std::env::var_os("MOSAIC_CONFIG").map(PathBuf::from));
    let default = PathBuf::from("mosaic.toml");
    let file = named.or_else(|| default.is_file().then_some(default));
    Origin {
        file,
        over: args.add_to(Layers::default().environment(std::env::vars())),
    }
}

/// Looks after a running process, whose admin port is where this configuration says.
async fn operate(origin: &Origin, operation: &dyn Operate, as_json: bool) -> ExitCode {
    let text = match read_file(origin) {
        Ok(text) => text,
        Err(problem) => return fail(2, &[problem]),
    };
    let settings = origin.layers(text.as_deref()).settings();
    let Some(platform) = settings.read::<PlatformConfig>() else {
        let lines: Vec<String> = settings.problems().iter().map(Problem::to_string).collect();
        return fail(2, &lines);
    };
    operate::run(operation, &platform.admin.to_string(), as_json).await
}

fn read_file(origin: &Origin) -> Result<Option<String>, String> {
    let Some(file) = &origin.file else { return Ok(None) };
    let text = std::fs::read_to_string(file);
    text.map(Some)
        .map_err(|error| format!("cannot read the configuration file {}: {error}", file.display()))
}

fn describe(error: &mosaic_core::Error) -> String {
    let cause = error.cause_chain();
    if cause.is_empty() {
        error.message().to_owned()
    } else {
        format!("{} ({cause})", error.message())
    }
}

/// Tells a person why there will be no process; logs may not be set up yet.
fn fail(code: u8, lines: &[String]) -> ExitCode {
    let what = if code == 2 {
        "the configuration has mistakes"
    } else {
        "cannot start"
    };
    let mut stderr = std::io::stderr().lock();
    let _ = writeln!(stderr, "{what}:");
    for line in lines {
        let _ = writeln!(stderr, "  {line}");
    }
    ExitCode::from(code)
}

fn print_lines(lines: impl Iterator<Item = String>) {
    let mut stdout = std::io::stdout().lock();
    for line in lines {
        // A closed pipe is no reason to end.
        let _ = writeln!(stdout, "{line}");
    }
}
