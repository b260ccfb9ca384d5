//! Reads `.proto` files with protox, the shipped ones from memory.

use std::path::Path;

use miette::Diagnostic as _;
use prost_reflect::{DescriptorPool, FileDescriptor};
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver};

use crate::places::{Error, Mistakes};

/// Files that come with this crate.
const SHIPPED: [(&str, &str); 4] = [
    (
        "mosaic/v1/options.proto",
        include_str!("../proto/mosaic/v1/options.proto"),
    ),
    ("google/api/http.proto", include_str!("../proto/google/api/http.proto")),
    (
        "google/api/annotations.proto",
        include_str!("../proto/google/api/annotations.proto"),
    ),
    (
        "buf/validate/validate.proto",
        include_str!("../proto/buf/validate/validate.proto"),
    ),
];

struct Shipped;

impl FileResolver for Shipped {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match SHIPPED.iter().find(|(shipped, _)| *shipped == name) {
            Some((_, source)) => File::from_source(name, source),
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}

/// Reads `names`, which are relative to `root`, and all they import.
pub(crate) fn parse(root: &Path, names: &[String]) -> Result<DescriptorPool, Error> {
    let mut resolver = ChainFileResolver::new();
    resolver.add(Shipped);
    resolver.add(IncludeFileResolver::new(root.to_owned()));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(resolver);
    compiler.include_source_info(true).include_imports(true);
    for name in names {
        if let Err(error) = compiler.open_file(name) {
            let mut mistakes = Mistakes::new(&root.to_string_lossy());
            match error.file() {
                Some(_) => mistakes.parsed(&describe(&error)),
                None => return Err(Error::new(format!("{}: {error}", root.display()))),
            }
            mistakes.into_result()?;
        }
    }
    Ok(compiler.descriptor_pool())
}

/// Returns `file:line:column: what`, and why if it was said.
fn describe(error: &protox::Error) -> String {
    let why = error.diagnostic_source().map(ToString::to_string);
    let why = why.or_else(|| error.help().map(|help| help.to_string()));
    match why {
        Some(why) => format!("{error:?}: {why}"),
        None => format!("{error:?}"),
    }
}

/// Does the file come with this crate, or with protobuf?
pub(crate) fn is_foreign(file: &FileDescriptor) -> bool {
    let name = file.name();
    name.starts_with("google/protobuf/") || SHIPPED.iter().any(|(shipped, _)| *shipped == name)
}

/// Returns the files that code is generated for: not the shipped ones, not the well-known types.
pub(crate) fn own_files(pool: &DescriptorPool) -> Vec<FileDescriptor> {
    pool.files().filter(|file| !is_foreign(file)).collect()
}
