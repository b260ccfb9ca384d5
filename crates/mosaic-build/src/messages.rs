//! The structs and enums of messages, by `prost-build`.

use std::collections::BTreeMap;

use prost_build::{Config, Module};

use crate::contract::Contract;
use crate::debug;
use crate::places::Error;

/// Returns the code of each package that has messages.
pub(crate) fn generate(contract: &Contract) -> Result<BTreeMap<String, String>, Error> {
    let mut config = Config::new();
    config
        .prost_path("::mosaic::prost")
        .prost_types_path("::mosaic::prost_types")
        .btree_map(["."]);
    let messages = contract.messages();
    let without_debug = messages.iter().filter(|message| debug::is_ours(message));
    config.skip_debug(without_debug.map(|message| format!(".{}", message.full_name())));
    let requests = contract.files.iter().map(|file| {
        let module = Module::from_protobuf_package_name(file.package_name());
        (module, file.file_descriptor_proto().clone())
    });
    let modules = config
        .generate(requests.collect())
        .map_err(|error| Error::new(format!("prost-build: {error}")))?;
    let mut packages = BTreeMap::new();
    for file in &contract.files {
        let module = Module::from_protobuf_package_name(file.package_name());
        if let Some(code) = modules.get(&module) {
            packages.insert(file.package_name().to_owned(), code.clone());
        }
    }
    Ok(packages)
}
