//! Configuration: `mosaic.toml`, then the environment, then the command line; the last word wins.
//!
//! Each concern declares its keys once with [`config!`](crate::config!), with documentation, unit and default. All
//! mistakes of all concerns are reported together, unknown keys among them: a misspelt limit that is silently ignored
//! is an outage later. Values are shown as they took effect, secrets as `***`. A field of type [`Live`] takes part in
//! a reload; a change of any other key is reported as needing a restart. This module reads no file and no variable: it
//! is handed texts, so that tests need neither.

mod settings;
mod value;

pub use settings::{Config, Effective, Layers, Problem, Reader, Reload, Settings, Source};
pub use value::{ByteSize, EngineUrl, Live, Raw, Setter, Value};

/// Declares a configuration struct.
///
/// ```
/// use std::time::Duration;
/// mosaic_core::config! {
///     /// Greetings.
///     pub struct GreetConfig in "greet" {
///         /// How long a greeting is good for.
///         pub ttl: Duration = "30s",
///         /// Whom to greet.
///         pub name: String,
///     }
/// }
/// let settings = mosaic_core::config::Layers::default().set("greet.name", "zed").settings();
/// let config = settings.read::<GreetConfig>().unwrap();
/// assert_eq!((config.ttl, config.name.as_str()), (Duration::from_secs(30), "zed"));
/// assert!(settings.problems().is_empty());
/// ```
#[macro_export]
macro_rules! config {
    ($(#[$doc:meta])* $vis:vis struct $name:ident in $section:literal {
        $($(#[doc = $field_doc:literal])+ $field_vis:vis $field:ident : $type:ty $(= $default:expr)?,)*
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        $vis struct $name {
            $($(#[doc = $field_doc])+ $field_vis $field: $type,)*
        }

        impl $crate::config::Config for $name {
            const SECTION: &'static str = $section;

            fn read(reader: &mut $crate::config::Reader<'_>) -> ::core::option::Option<Self> {
                $(let $field = reader.field::<$type>(
                    stringify!($field),
                    $crate::config!(@default $($default)?),
                    concat!($($field_doc),+),
                );)*
                ::core::option::Option::Some(Self { $($field: $field?,)* })
            }
        }
    };
    (@default) => { ::core::option::Option::None };
    (@default $default:expr) => { ::core::option::Option::Some($default) };
}

#[cfg(test)]
mod tests;
