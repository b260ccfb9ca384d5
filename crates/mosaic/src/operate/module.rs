//! Commands that a module adds to the program, `program MODULE ...`: they ask the module's own routes at the admin port.
//!
//! A command is arguments and a request, nothing else: what it does is done by the process that runs the module, with that
//! process's configuration and engines. So it works against every engine, and there is one implementation, which `curl`
//! reaches as well. The other half is [`Module::admin`](crate::Module::admin).

use clap::{ArgMatches, Command, Subcommand};
use http::Method;
use serde_json::Value;

use super::table;

/// A command by which people look after a running process.
pub trait Operate {
    /// Returns what is asked of the admin port.
    fn request(&self) -> AdminRequest;

    /// Returns the answer as people read it; a table or lines unless the command knows better.
    fn text(&self, answer: &Value) -> String {
        table::render(answer)
    }

    /// Is the answer such that nobody needs to look? If not, the program ends with 1.
    fn is_well(&self, _: &Value) -> bool {
        true
    }
}

/// A request to the admin port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminRequest {
    /// What changes nothing is a `GET`.
    pub method: Method,
    /// Path and query; of a module's command, below `/modules/MODULE`.
    pub path: String,
    /// JSON, or empty.
    pub body: Vec<u8>,
}

impl AdminRequest {
    /// Asks for something.
    pub fn get(path: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            path: path.into(),
            body: Vec::new(),
        }
    }

    /// Has something done.
    pub fn post(path: impl Into<String>) -> Self {
        Self {
            method: Method::POST,
            ..Self::get(path)
        }
    }
}

type Parse = fn(&ArgMatches) -> Result<Box<dyn Operate>, clap::Error>;

/// The commands of one module.
pub(crate) struct ModuleCommands {
    module: &'static str,
    augment: fn(Command) -> Command,
    parse: Parse,
}

impl ModuleCommands {
    pub(crate) fn of<C: Operate + Subcommand + 'static>(module: &'static str) -> Self {
        Self {
            module,
            augment: |command| C::augment_subcommands(command),
            parse: |matches| Ok(Box::new(C::from_arg_matches(matches)?)),
        }
    }

    pub(crate) fn command(&self) -> Command {
        (self.augment)(
            Command::new(self.module)
                .subcommand_required(true)
                .arg_required_else_help(true),
        )
    }

    /// Reads what was typed, if it is a command of this module.
    pub(crate) fn parse(&self, matches: &ArgMatches) -> Result<Option<Box<dyn Operate>>, clap::Error> {
        let Some(matches) = matches.subcommand_matches(self.module) else {
            return Ok(None);
        };
        let module = self.module;
        let operation = (self.parse)(matches)?;
        Ok(Some(Box::new(Below { module, operation })))
    }
}

/// A command whose request goes to its module.
struct Below {
    module: &'static str,
    operation: Box<dyn Operate>,
}

impl Operate for Below {
    fn request(&self) -> AdminRequest {
        let request = self.operation.request();
        AdminRequest {
            path: format!("/modules/{}{}", self.module, request.path),
            ..request
        }
    }

    fn text(&self, answer: &Value) -> String {
        self.operation.text(answer)
    }

    fn is_well(&self, answer: &Value) -> bool {
        self.operation.is_well(answer)
    }
}
