//! The OpenAPI 3.1 document of a service.

use prost_reflect::FileDescriptor;

use crate::contract::Service;

/// Returns the comment before the element at `path`.
pub(crate) fn comment(file: &FileDescriptor, path: &[i32]) -> String {
    let info = file.file_descriptor_proto().source_code_info.as_ref();
    let location = info.and_then(|info| info.location.iter().find(|location| location.path == path));
    let comment = location.and_then(|location| {
        location
            .leading_comments
            .as_deref()
            .or(location.trailing_comments.as_deref())
    });
    comment.unwrap_or_default().to_owned()
}

/// Returns the document as JSON.
pub(crate) fn document(_service: &Service) -> String {
    "{}".to_owned()
}
