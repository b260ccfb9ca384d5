//! Failures of capabilities in the words and numbers of the clients.

use mosaic::{Code, Error};

use crate::model::number;

/// Says what went wrong in the words of the clients.
pub(crate) fn say(error: &Error, number: i32, text: &'static str) -> Error {
    let said = Error::new(error.code(), error.reason().to_owned(), text).numbered(number);
    match error.retry_after() {
        Some(after) => said.with_retry_after(after),
        None => said,
    }
}

/// Is it a failure of ours that has no better words?
pub(crate) fn is_ours(error: &Error) -> bool {
    error.code().is_fault() && error.code() != Code::Unavailable
}

/// Says what a capability answered about an article and what belongs to it. What already has a number is in our words.
pub(crate) fn in_our_words(error: Error) -> Error {
    if error.number().is_some() {
        return error;
    }
    let known = match error.reason() {
        "COMMENT_NOT_FOUND" => Some("评论不存在"),
        "ITEM_GONE" => Some("文章不存在"),
        "FOLDER_NOT_FOUND" => Some("收藏夹不存在"),
        "FOLDER_EXISTS" => Some("收藏夹已存在"),
        "FOLDERS_TOO_MANY" => Some("收藏夹太多"),
        "SELF_FOLLOW" => Some("不能关注自己"),
        "TOO_MANY_FOLLOWEES" => Some("关注的人太多"),
        "FEED_CURSOR_INVALID" => Some("分页参数错误"),
        "REWARD_TO_SELF" => Some("不能打赏自己"),
        _ => None,
    };
    match (known, error.code()) {
        (Some(text), _) => say(&error, number::USER, text),
        (None, Code::InvalidArgument | Code::FailedPrecondition | Code::AlreadyExists) => {
            say(&error, number::USER, "参数错误").caused_by(error)
        }
        (None, Code::NotFound) => say(&error, number::SYSTEM, "系统错误"),
        (None, Code::Unauthenticated | Code::PermissionDenied | Code::ResourceExhausted) => error,
        (None, _) => say(&error, number::SYSTEM, "系统错误").caused_by(error),
    }
}
