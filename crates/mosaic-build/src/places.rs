//! Where in a contract something is wrong.
//!
//! Mistakes are collected and not thrown, so that one build names them all. A place is a path into the descriptor of a
//! file, as protobuf's source info spells it; the line comes from the longest part of the path the source info knows.

use std::fmt;

use prost_reflect::FileDescriptor;
use prost_reflect::prost::Message as _;
use prost_reflect::prost_types::FileDescriptorProto;

/// What is wrong with the contracts, one line each: `proto/x.proto:12:5: ...`.
pub struct Error(Vec<String>);

impl Error {
    pub(crate) fn new(line: impl Into<String>) -> Self {
        Self(vec![line.into()])
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

/// The same as `Display`: a build script that ends in an error prints this.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the contracts are wrong\n{self}")
    }
}

impl std::error::Error for Error {}

/// A position in a contract.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    file: FileDescriptor,
    path: Vec<i32>,
}

impl Place {
    pub(crate) fn new(file: FileDescriptor, path: &[i32]) -> Self {
        Self {
            file,
            path: path.to_vec(),
        }
    }

    /// Goes deeper by `steps`.
    pub(crate) fn at(&self, steps: &[i32]) -> Self {
        let path = self.path.iter().chain(steps).copied().collect();
        Self {
            file: self.file.clone(),
            path,
        }
    }

    /// Returns `file:line:column`.
    fn position(&self) -> String {
        // Only the encoded form has the resolved paths of options.
        let file = FileDescriptorProto::decode(self.file.encode_to_vec().as_slice()).unwrap_or_default();
        let locations = file.source_code_info.map(|info| info.location).unwrap_or_default();
        let span = (1..=self.path.len()).rev().find_map(|len| {
            let path = &self.path[..len];
            let exact = locations.iter().find(|location| location.path == path);
            exact
                .or_else(|| locations.iter().find(|location| location.path.starts_with(path)))
                .map(|location| &location.span)
        });
        let (line, column) = match span.map(Vec::as_slice) {
            Some([line, column, ..]) => (line + 1, column + 1),
            _ => (1, 1),
        };
        format!("{}:{line}:{column}", self.file.name())
    }
}

/// Collects what is wrong.
#[derive(Debug)]
pub(crate) struct Mistakes {
    root: String,
    found: Vec<String>,
}

impl Mistakes {
    /// `root` is put before the names of files.
    pub(crate) fn new(root: &str) -> Self {
        Self {
            root: root.trim_end_matches('/').to_owned(),
            found: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, place: &Place, text: impl fmt::Display) {
        self.found.push(format!("{}/{}: {text}", self.root, place.position()));
    }

    /// Adds a mistake found by the parser, which begins with the name of the file.
    pub(crate) fn parsed(&mut self, line: &str) {
        self.found.push(format!("{}/{line}", self.root));
    }

    pub(crate) fn into_result(self) -> Result<(), Error> {
        if self.found.is_empty() {
            Ok(())
        } else {
            Err(Error(self.found))
        }
    }
}
