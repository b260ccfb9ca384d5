//! What a build script calls.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use prost_reflect::prost::Message as _;
use prost_reflect::prost_types::FileDescriptorProto;
use prost_reflect::{DynamicMessage, FileDescriptor, ReflectMessage as _};

use crate::contract::Contract;
use crate::places::{Error, Mistakes};
use crate::{checks, debug, json, messages, openapi, output, parse, routes, service};

/// Generates code from the contracts beneath one folder.
#[derive(Debug, Clone)]
pub struct Builder {
    root: PathBuf,
}

/// Generated text and what it includes.
#[derive(Debug)]
pub struct Generated {
    /// The Rust code, one module a package.
    pub rust: String,
    /// Files that the code includes, by their path beneath `OUT_DIR`.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Builder {
    /// Makes a builder for the contracts beneath `root`, relative to the folder of the build script's `Cargo.toml`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Generates code for every `.proto` beneath the root into `OUT_DIR/mosaic.rs`.
    ///
    /// # Errors
    /// Everything that is wrong with the contracts.
    pub fn compile_all(&self) -> Result<(), Error> {
        let names = self.find_all()?;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.compile(&names)
    }

    /// Generates code for `names`, and what they import, into `OUT_DIR/mosaic.rs`.
    ///
    /// # Errors
    /// Everything that is wrong with the contracts.
    pub fn compile(&self, names: &[&str]) -> Result<(), Error> {
        say(&format!("cargo:rerun-if-changed={}", self.root.display()));
        let generated = self.generate(names)?;
        let out =
            std::env::var_os("OUT_DIR").ok_or_else(|| Error::new("OUT_DIR is not set: call this from a build.rs"))?;
        let out = PathBuf::from(out);
        for (path, bytes) in &generated.files {
            write(&out.join(path), bytes)?;
        }
        write(&out.join("mosaic.rs"), generated.rust.as_bytes())
    }

    /// Generates code for `names`, and what they import, and writes nothing.
    ///
    /// # Errors
    /// Everything that is wrong with the contracts.
    pub fn generate(&self, names: &[&str]) -> Result<Generated, Error> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let pool = parse::parse(&self.root, &names)?;
        let mut mistakes = Mistakes::new(&self.root.to_string_lossy());
        let contract = Contract::new(&pool, &mut mistakes);
        let messages = contract.messages();
        let checks: Vec<String> = messages
            .iter()
            .map(|message| checks::message(message, &mut mistakes))
            .collect();
        mistakes.into_result()?;
        let mut packages = messages::generate(&contract)?;
        let mut files = BTreeMap::new();
        for (message, check) in messages.iter().zip(&checks) {
            let code = packages.entry(message.package_name().to_owned()).or_default();
            code.push_str(&json::message(message));
            code.push_str(&debug::message(message));
            code.push_str(check);
        }
        for file in &contract.files {
            let code = packages.entry(file.package_name().to_owned()).or_default();
            code.push_str(&json::enums(file));
        }
        for each in &contract.services {
            let file = each.descriptor.parent_file();
            let code = packages.entry(file.package_name().to_owned()).or_default();
            code.push_str(&service::generate(each));
            code.push_str(&routes::generate(each));
            let document = openapi::document(each);
            files.insert(service::openapi_path(each), document.into_bytes());
            files.insert(service::descriptor_set_path(&file), descriptor_set(&file));
        }
        let rust = output::join(&packages)?;
        Ok(Generated { rust, files })
    }

    fn find_all(&self) -> Result<Vec<String>, Error> {
        let mut found = Vec::new();
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            let entries = fs::read_dir(&folder).map_err(|error| cannot("read", &folder, &error))?;
            for entry in entries {
                let path = entry.map_err(|error| cannot("read", &folder, &error))?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "proto") {
                    let name = path.strip_prefix(&self.root).unwrap_or(&path);
                    found.push(name.to_string_lossy().replace('\\', "/"));
                }
            }
        }
        found.sort();
        Ok(found)
    }
}

/// Tells Cargo something.
#[expect(clippy::print_stdout, reason = "this is how a build script speaks to Cargo")]
fn say(line: &str) {
    println!("{line}");
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Error {
    Error::new(format!("cannot {what} {}: {error}", path.display()))
}

/// Writes a file unless it is there with the same bytes.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    if fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|error| cannot("create", folder, &error))?;
    }
    fs::write(path, bytes).map_err(|error| cannot("write", path, &error))
}

/// Returns `FileDescriptorSet` of `file` and all it imports, without comments.
fn descriptor_set(file: &FileDescriptor) -> Vec<u8> {
    let mut ordered: Vec<FileDescriptor> = Vec::new();
    push_with_imports(file, &mut ordered);
    let mut set = Vec::new();
    for file in &ordered {
        let encoded = file.encode_to_vec();
        let descriptor = FileDescriptorProto::default().descriptor();
        let mut bare = DynamicMessage::decode(descriptor, encoded.as_slice()).expect("it was just encoded");
        bare.clear_field_by_name("source_code_info");
        prost::encoding::bytes::encode(1, &bare.encode_to_vec(), &mut set);
    }
    set
}

fn push_with_imports(file: &FileDescriptor, ordered: &mut Vec<FileDescriptor>) {
    if ordered.contains(file) {
        return;
    }
    for import in file.dependencies() {
        push_with_imports(&import, ordered);
    }
    ordered.push(file.clone());
}
