//! Checks of a request against the rules of its contract (`buf.validate`).
//!
//! `mosaic-build` writes a [`Check`] for every message; the functions here are the words it uses. Every text field is
//! refused with a NUL in it, whatever its rules say: PostgreSQL cannot store one.

use std::borrow::Cow;

use crate::{Error, Violation};

/// A message that knows the rules of its contract.
pub trait Check {
    /// Reports what is wrong with this message to `found`.
    fn check(&self, found: &mut Violations);

    /// Returns an error that names every violation, if there is one.
    fn checked(&self) -> Result<(), Error> {
        let mut found = Violations::default();
        self.check(&mut found);
        found.into_result()
    }
}

/// Most violations that one answer names: a request of a million bad items must not give an answer of a million lines.
const MAX_VIOLATIONS: usize = 16;

/// Collects violations and knows where in the message the check is.
#[derive(Debug, Default)]
pub struct Violations {
    path: Vec<Segment>,
    found: Vec<Violation>,
}

#[derive(Debug)]
enum Segment {
    Field(&'static str),
    Index(usize),
}

impl Violations {
    /// Reports `description` for `field` unless `holds`.
    pub fn require(&mut self, holds: bool, field: &'static str, description: impl Into<Cow<'static, str>>) {
        if !holds && self.found.len() < MAX_VIOLATIONS {
            let field = self.path_to(field);
            self.found.push(Violation {
                field,
                description: description.into(),
            });
        }
    }

    /// Reports a NUL in `text`.
    pub fn text(&mut self, text: &str, field: &'static str) {
        self.require(!text.as_bytes().contains(&0), field, "must not contain a NUL character");
    }

    /// Checks the message in `field`.
    pub fn nested(&mut self, field: &'static str, message: &impl Check) {
        self.path.push(Segment::Field(field));
        message.check(self);
        self.path.pop();
    }

    /// Runs `check` for every item of the repeated `field`.
    pub fn each<T>(&mut self, field: &'static str, items: &[T], mut check: impl FnMut(&mut Self, &T)) {
        self.path.push(Segment::Field(field));
        for (index, item) in items.iter().enumerate() {
            if self.found.len() == MAX_VIOLATIONS {
                break;
            }
            self.path.push(Segment::Index(index));
            check(self, item);
            self.path.pop();
        }
        self.path.pop();
    }

    /// Ends the check.
    pub fn into_result(self) -> Result<(), Error> {
        if self.found.is_empty() {
            Ok(())
        } else {
            Err(Error::violations(self.found))
        }
    }

    fn path_to(&self, field: &str) -> String {
        let mut path = String::new();
        for segment in &self.path {
            match segment {
                Segment::Field(name) => push_field(&mut path, name),
                Segment::Index(index) => path.push_str(&format!("[{index}]")),
            }
        }
        push_field(&mut path, field);
        path
    }
}

fn push_field(path: &mut String, name: &str) {
    if !path.is_empty() && !name.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}

impl<T: Check> Check for Box<T> {
    fn check(&self, found: &mut Violations) {
        self.as_ref().check(found);
    }
}

impl Check for () {
    fn check(&self, _: &mut Violations) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Item(&'static str);
    impl Check for Item {
        fn check(&self, found: &mut Violations) {
            found.text(self.0, "name");
            found.require(!self.0.is_empty(), "name", "must not be empty");
        }
    }
    struct Basket(Vec<Item>);
    impl Check for Basket {
        fn check(&self, found: &mut Violations) {
            found.each("items", &self.0, |found, item| item.check(found));
        }
    }

    #[test]
    fn violations_say_where() {
        let error = Basket(vec![Item("a"), Item(""), Item("a\0")]).checked().unwrap_err();
        let fields: Vec<_> = error
            .field_violations()
            .iter()
            .map(|violation| violation.field.as_str())
            .collect();
        assert_eq!(fields, ["items[1].name", "items[2].name"]);
    }

    #[test]
    fn a_flood_of_violations_is_cut() {
        let basket = Basket((0..1000).map(|_| Item("")).collect());
        assert_eq!(basket.checked().unwrap_err().field_violations().len(), MAX_VIOLATIONS);
    }
}
