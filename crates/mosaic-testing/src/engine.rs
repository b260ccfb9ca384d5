//! Real engines, where they are.

/// Returns the URL in the variable `name` (`MOSAIC_TEST_POSTGRES`, `MOSAIC_TEST_MYSQL`, `MOSAIC_TEST_REDIS`).
///
/// `None`, with a line that says so, if it is not set.
///
/// # Panics
/// If it is not set and `MOSAIC_TEST_ENGINES` is `required`: a test run that promises engines must not skip them.
#[expect(clippy::disallowed_methods, reason = "tests have no configuration to ask")]
pub fn engine_url(name: &str) -> Option<String> {
    let url = std::env::var(name).ok();
    if url.is_none() {
        let required = std::env::var("MOSAIC_TEST_ENGINES").is_ok_and(|value| value == "required");
        assert!(!required, "{name} is not set and engines are required");
        eprintln!("skipped: {name} is not set");
    }
    url
}
