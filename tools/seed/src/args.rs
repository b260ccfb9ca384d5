//! The command line.

use clap::{Args, Parser, Subcommand};

/// Fills a platform that runs with a believable site, through its API.
#[derive(Debug, Parser)]
#[command(name = "seed", bin_name = "./dev seed")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) product: Product,
}

/// Whose site.
#[derive(Debug, Subcommand)]
pub(crate) enum Product {
    /// People, articles, and what readers do with them
    #[command(after_help = "Start the platform first, in another terminal: ./dev up\n\
        The same command again goes on where it was: what is there already is left as it is. Another seed makes other people.")]
    Content(Content),
}

/// How the site of the content product shall be.
#[derive(Debug, Clone, Args)]
pub(crate) struct Content {
    /// Where the platform's public port is; else SEED_URL of the environment, else as `./dev up` has it
    #[arg(long, value_name = "URL", default_value_t = url())]
    pub(crate) url: String,
    /// Accounts
    #[arg(long, default_value_t = 500, value_parser = 1..=1_000_000)]
    users: i64,
    /// Articles; of ten, nine are published, the others drafts or withdrawn
    #[arg(long, default_value_t = 5_000, value_parser = 0..=10_000_000)]
    articles: i64,
    /// Reads, likes, collections, comments and follows
    #[arg(long, default_value_t = 100_000, value_parser = 0..=1_000_000_000)]
    interactions: i64,
    /// The same seed and sizes make the same site
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Requests at a time
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(crate) parallel: u16,
    /// Password of all accounts
    #[arg(long, default_value = "Seed#mosaic2026")]
    pub(crate) password: String,
    /// Afterwards counts on the site what has arrived; ends with 1 if something is missing
    #[arg(long)]
    pub(crate) check: bool,
}

/// Not a variable that begins with MOSAIC_: the platform would take it for configuration.
fn url() -> String {
    let named = std::env::var_os("SEED_URL").and_then(|url| url.into_string().ok());
    named.unwrap_or_else(|| "http://127.0.0.1:8080".to_owned())
}

impl Content {
    pub(crate) fn size(&self) -> crate::site::Size {
        let size = |number: i64| usize::try_from(number).unwrap_or(0);
        crate::site::Size {
            users: size(self.users),
            articles: size(self.articles),
            interactions: size(self.interactions),
        }
    }
}
