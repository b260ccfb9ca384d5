//! What can be said on the command line.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::ca::{Existing, Order, ServiceName};

/// The operator's tool of a Mosaic platform.
#[derive(Debug, Parser)]
#[command(name = "mosaic", version, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Certificates, with which the processes of a platform prove themselves to each other.
    #[command(arg_required_else_help = true)]
    Ca {
        #[command(subcommand)]
        command: CaCommand,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum CaCommand {
    /// Makes the CA of a platform: a key, which stays with whoever issues certificates, and a bundle, which every
    /// process gets.
    Init(Init),
    /// Issues the certificate of one process, for all services (modules) that it runs.
    ///
    /// Writes `tls.crt`, `tls.key` and `ca.crt`, which are the process' `tls.cert`, `tls.key` and `tls.ca`. A process that
    /// runs reads them again by itself.
    Issue(Issue),
    /// Begins to replace the key of the CA; certificates of the old and the new key are believed until `--finish`.
    Rotate(Rotate),
}

/// Where the CA is.
#[derive(Debug, clap::Args)]
pub(crate) struct CaDir {
    /// Directory of the CA.
    #[arg(long, default_value = "ca")]
    pub(crate) dir: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Init {
    #[command(flatten)]
    pub(crate) ca: CaDir,
    /// Days that the CA is good for.
    #[arg(long, default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(crate) days: u32,
    /// Replace a CA that is there. Nobody believes its certificates any more.
    #[arg(long)]
    force: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Issue {
    /// Services that the process runs, with commas: those of its `run`.
    #[arg(required = true, value_delimiter = ',')]
    services: Vec<ServiceName>,
    #[command(flatten)]
    pub(crate) ca: CaDir,
    /// Directory of the certificate [default: `issued/<first service>` in that of the CA].
    #[arg(long)]
    out: Option<PathBuf>,
    /// Host names, for clients that are no Mosaic and look at them; with commas.
    #[arg(long, value_delimiter = ',')]
    dns: Vec<String>,
    /// Addresses, for the same; with commas.
    #[arg(long, value_delimiter = ',')]
    ip: Vec<IpAddr>,
    /// Days that the certificate is good for.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    /// Replace a certificate that is there: renew it.
    #[arg(long)]
    force: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Rotate {
    #[command(flatten)]
    pub(crate) ca: CaDir,
    /// Days that the new key is good for.
    #[arg(long, default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(crate) days: u32,
    /// End the rotation: certificates of the old key are not believed any more.
    #[arg(long)]
    pub(crate) finish: bool,
    /// With `--finish`: although certificates of the old key have not ended.
    #[arg(long, requires = "finish")]
    force: bool,
}

impl Init {
    pub(crate) fn existing(&self) -> Existing {
        Existing::of(self.force)
    }
}

impl Issue {
    pub(crate) fn existing(&self) -> Existing {
        Existing::of(self.force)
    }

    pub(crate) fn order(&self) -> Order {
        Order {
            services: self.services.clone(),
            dns: self.dns.clone(),
            ips: self.ip.clone(),
            days: self.days,
            out: self.out.clone(),
        }
    }
}

impl Rotate {
    pub(crate) fn existing(&self) -> Existing {
        Existing::of(self.force)
    }
}
