//! Arguments of a script, one after the other.

use std::fmt::Display;

#[derive(Debug, Default)]
pub(super) struct Args(Vec<Vec<u8>>);

impl Args {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn text(&mut self, text: impl AsRef<[u8]>) -> &mut Self {
        self.0.push(text.as_ref().to_vec());
        self
    }

    pub(super) fn bytes(&mut self, bytes: Vec<u8>) -> &mut Self {
        self.0.push(bytes);
        self
    }

    pub(super) fn show(&mut self, value: impl Display) -> &mut Self {
        self.bytes(value.to_string().into_bytes())
    }

    /// Adds nothing, where something might be.
    pub(super) fn none(&mut self) -> &mut Self {
        self.bytes(Vec::new())
    }

    pub(super) fn maybe(&mut self, value: Option<impl Display>) -> &mut Self {
        match value {
            Some(value) => self.show(value),
            None => self.none(),
        }
    }

    pub(super) fn append(&mut self, other: Self) -> &mut Self {
        self.0.extend(other.0);
        self
    }

    pub(super) fn into_inner(self) -> Vec<Vec<u8>> {
        self.0
    }
}
