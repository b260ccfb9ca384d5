//! Generates the code of the contracts.

fn main() -> Result<(), mosaic_build::Error> {
    mosaic_build::Builder::new("proto").compile_all()
}
