//! Generates the code of the contract that is measured.

fn main() -> Result<(), mosaic_build::Error> {
    mosaic_build::Builder::new("proto").compile_all()
}
