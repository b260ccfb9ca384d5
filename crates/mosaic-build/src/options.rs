//! Options of the contract as Rust values.

use std::time::Duration;

use prost_reflect::{DynamicMessage, EnumDescriptor, FieldDescriptor, FileDescriptor, ReflectMessage, Value};

/// Extension numbers.
pub(crate) const METHOD: i32 = 51003;
pub(crate) const FIELD: i32 = 51004;
pub(crate) const HTTP: i32 = 72_295_728;
pub(crate) const RULES: i32 = 1159;

/// A message of options, read by name.
#[derive(Debug, Clone)]
pub(crate) struct Options(pub(crate) DynamicMessage);

impl Options {
    /// Returns the extension `name` of `options`, if it is set.
    pub(crate) fn extension(options: &DynamicMessage, name: &str) -> Option<Self> {
        let pool = options.descriptor().parent_pool().clone();
        let extension = pool.get_extension_by_name(name)?;
        if !options.has_extension(&extension) {
            return None;
        }
        options.get_extension(&extension).as_message().cloned().map(Self)
    }

    /// Returns the value of a field that is set.
    pub(crate) fn get(&self, name: &str) -> Option<Value> {
        if !self.0.has_field_by_name(name) {
            return None;
        }
        self.0.get_field_by_name(name).map(std::borrow::Cow::into_owned)
    }

    /// Returns a text; unset is empty.
    pub(crate) fn text(&self, name: &str) -> String {
        let value = self.get(name);
        value.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// Returns a flag; unset is false.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.get(name).and_then(|value| value.as_bool()).unwrap_or_default()
    }

    /// Returns the name of an enum value.
    pub(crate) fn choice(&self, name: &str) -> Option<String> {
        let number = self.get(name)?.as_enum_number()?;
        let field = self.0.descriptor().get_field_by_name(name)?;
        let kind = field.kind();
        let value: Option<String> = kind
            .as_enum()
            .and_then(|values: &EnumDescriptor| values.get_value(number))
            .map(|value| value.name().to_owned());
        value
    }

    /// Returns a message.
    pub(crate) fn message(&self, name: &str) -> Option<Self> {
        self.get(name)?.as_message().cloned().map(Self)
    }

    /// Returns the items of a repeated field.
    pub(crate) fn list(&self, name: &str) -> Vec<Value> {
        self.get(name)
            .and_then(|value| value.as_list().map(<[Value]>::to_vec))
            .unwrap_or_default()
    }

    /// Returns the names, numbers and values of the fields that are set.
    pub(crate) fn set_fields(&self) -> Vec<(String, i32, Value)> {
        let set = self.0.fields();
        set.map(|(field, value)| {
            let number = i32::try_from(field.number()).expect("field numbers have 29 bits");
            (field.name().to_owned(), number, value.clone())
        })
        .collect()
    }
}

/// What `(mosaic.v1.field)` and the standard options say of a field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FieldOptions {
    pub(crate) header: Option<String>,
    pub(crate) cookie: Option<Cookie>,
    pub(crate) is_redacted: bool,
}

impl FieldOptions {
    pub(crate) fn of(field: &FieldDescriptor) -> Self {
        let options = field.options();
        let ours = Options::extension(&options, "mosaic.v1.field");
        let header = ours.as_ref().map(|ours| ours.text("header")).unwrap_or_default();
        Self {
            header: Some(header).filter(|header| !header.is_empty()),
            cookie: ours
                .and_then(|ours| ours.message("cookie"))
                .map(|cookie| Cookie::of(&cookie)),
            is_redacted: Options(options).flag("debug_redact"),
        }
    }

    /// Is the field in the JSON body or the query?
    pub(crate) fn is_in_body(&self) -> bool {
        self.header.is_none() && self.cookie.is_none()
    }
}

/// A cookie that a field travels in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cookie {
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) max_age: String,
    pub(crate) http_only: bool,
    /// `Lax`, `Strict`, `None`.
    pub(crate) same_site: &'static str,
}

impl Cookie {
    fn of(options: &Options) -> Self {
        let path = options.text("path");
        Self {
            name: options.text("name"),
            path: if path.is_empty() { "/".to_owned() } else { path },
            max_age: options.text("max_age"),
            http_only: options.flag("http_only"),
            same_site: match options.choice("same_site").as_deref() {
                Some("STRICT") => "Strict",
                Some("NONE") => "None",
                _ => "Lax",
            },
        }
    }
}

/// Does the file write enums as numbers?
pub(crate) fn enums_are_numbers(file: &FileDescriptor) -> bool {
    Options::extension(&file.options(), "mosaic.v1.file")
        .and_then(|options| options.choice("enums"))
        .is_some_and(|enums| enums == "NUMBERS")
}

/// Does the field say `jstype = JS_STRING`?
pub(crate) fn is_js_string(field: &FieldDescriptor) -> bool {
    let options = field.field_descriptor_proto().options.as_ref();
    options.is_some_and(|options| options.jstype() == prost_types::field_options::JsType::JsString)
}

/// Reads `500ms`, `2s`, `1m`, `6h`, `7d`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit())?;
    let amount: u64 = text[..digits].parse().ok()?;
    let ms = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    amount.checked_mul(ms).filter(|ms| *ms > 0).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("2s"), Some(Duration::from_secs(2)));
        assert_eq!(duration("7d"), Some(Duration::from_secs(604_800)));
        for wrong in [
            "",
            "2",
            "s",
            "2 s",
            "-1s",
            "0s",
            "1.5s",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }
}
