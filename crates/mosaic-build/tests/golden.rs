//! What the fixture becomes, to the letter. `BLESS=1` writes what is generated as what is expected.

use std::fs;
use std::path::Path;

use mosaic_build::Builder;

/// Compares with the checked-in file, or replaces it.
#[track_caller]
fn compare(name: &str, generated: &str) {
    let path = Path::new("tests/fixture/expected").join(name);
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, generated).expect("the folder is checked in");
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    let mut lines = expected.lines().zip(generated.lines()).enumerate();
    if let Some((line, (want, got))) = lines.find(|(_, (want, got))| want != got) {
        let line = line + 1;
        panic!(
            "{}:{line}\n  expected: {want}\n generated: {got}\nBLESS=1 accepts what is generated",
            path.display()
        );
    }
    assert!(
        expected == generated,
        "{} and what is generated differ in length; BLESS=1 accepts what is generated",
        path.display()
    );
}

#[test]
fn the_fixture_becomes_what_is_checked_in() {
    let files = ["fixture/v1/greeter.proto"];
    let generated = Builder::new("tests/fixture/proto").generate(&files).unwrap();
    compare("fixture.rs", &generated.rust);
    for (path, bytes) in &generated.files {
        if let Some(name) = path.strip_prefix("mosaic/").filter(|name| name.ends_with(".json")) {
            compare(name, std::str::from_utf8(bytes).unwrap());
        }
    }
}
