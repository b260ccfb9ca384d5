//! `mosaic ca`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use tempfile::TempDir;

/// What a run has said: exit code, standard output, standard error.
fn run(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_mosaic"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Runs what must succeed.
#[track_caller]
fn done(folder: &Path, arguments: &[&str]) -> String {
    let (code, stdout, stderr) = run(folder, arguments);
    assert_eq!((code, stderr.as_str()), (0, ""), "{arguments:?}");
    stdout
}

/// Runs what must fail; returns what it says.
#[track_caller]
fn refused(folder: &Path, arguments: &[&str], want: i32) -> String {
    let (code, stdout, stderr) = run(folder, arguments);
    assert_eq!((code, stdout.as_str()), (want, ""), "{arguments:?}: {stderr}");
    stderr
}

fn certificates(file: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(file)
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

fn mode(file: &Path) -> u32 {
    fs::metadata(file).unwrap().permissions().mode() & 0o777
}

/// Does the certificate file `cert` lead to one of the certificates in `bundle`, for both ends, now?
fn is_believed(cert: &Path, bundle: &Path) -> bool {
    let (chain, roots) = (certificates(cert), certificates(bundle));
    let anchors: Vec<_> = roots
        .iter()
        .map(|root| webpki::anchor_from_trusted_cert(root).unwrap())
        .collect();
    let end = webpki::EndEntityCert::try_from(&chain[0]).unwrap();
    let algorithms = rustls::crypto::ring::default_provider()
        .signature_verification_algorithms
        .all;
    let now = mosaic_core::Runtime::system().now().as_secs();
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now.try_into().unwrap()));
    [webpki::KeyUsage::server_auth(), webpki::KeyUsage::client_auth()]
        .into_iter()
        .all(|usage| {
            let path = end.verify_for_usage(algorithms, &anchors, &chain[1..], now, usage, None, None);
            path.is_ok()
        })
}

#[test]
fn a_certificate_names_the_services_of_its_process() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    done(at, &["ca", "init"]);
    let said = done(
        at,
        &[
            "ca",
            "issue",
            "users,order-2",
            "--out",
            "here",
            "--dns",
            "users.internal",
            "--ip",
            "10.0.0.7",
        ],
    );
    assert!(
        said.contains("users, order-2") && said.contains("tls.cert = \"here/tls.crt\""),
        "{said}"
    );
    let here = at.join("here");
    assert!(is_believed(&here.join("tls.crt"), &here.join("ca.crt")));
    let chain = certificates(&here.join("tls.crt"));
    let certificate = webpki::EndEntityCert::try_from(&chain[0]).unwrap();
    let uris: Vec<_> = certificate.valid_uri_names().collect();
    assert_eq!(uris, ["spiffe://mosaic/users", "spiffe://mosaic/order-2"]);
    assert_eq!(certificate.valid_dns_names().collect::<Vec<_>>(), ["users.internal"]);
    for (file, want) in [
        (at.join("ca/ca.key"), 0o600),
        (here.join("tls.key"), 0o600),
        (here.join("tls.crt"), 0o644),
        (here.join("ca.crt"), 0o644),
    ] {
        assert_eq!(mode(&file), want, "{}", file.display());
    }
    let names = fs::read_dir(&here).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.count(), 3, "nothing else is left");
}

#[test]
fn what_is_there_stays_unless_forced() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    done(at, &["ca", "init"]);
    done(at, &["ca", "issue", "users"]);
    let read = |file: &str| fs::read(at.join(file)).unwrap();
    let (ca, key) = (read("ca/ca.key"), read("ca/issued/users/tls.key"));
    assert!(refused(at, &["ca", "init"], 1).contains("ca/ca.key is there already; --force"));
    assert!(refused(at, &["ca", "issue", "users"], 1).contains("tls.key is there already; --force"));
    assert_eq!(
        (read("ca/ca.key"), read("ca/issued/users/tls.key")),
        (ca.clone(), key.clone())
    );
    done(at, &["ca", "issue", "users", "--force"]);
    assert_ne!(read("ca/issued/users/tls.key"), key);
    done(at, &["ca", "init", "--force"]);
    assert_ne!(read("ca/ca.key"), ca);
    let issued = at.join("ca/issued/users/tls.crt");
    assert!(!is_believed(&issued, &at.join("ca/ca.crt")), "of the CA before");
}

#[test]
fn a_key_is_replaced_without_a_moment_of_disbelief() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    done(at, &["ca", "init"]);
    done(at, &["ca", "issue", "old"]);
    assert!(refused(at, &["ca", "rotate", "--finish"], 1).contains("not being replaced"));
    let [old, new] = ["old", "new"].map(|name| at.join("ca/issued").join(name));
    done(at, &["ca", "rotate"]);
    done(at, &["ca", "issue", "new"]);
    for (cert, bundle, want) in [
        (&old, &old, true),
        (&old, &new, true),
        (&new, &new, true),
        (&new, &old, true),
    ] {
        assert_eq!(
            is_believed(&cert.join("tls.crt"), &bundle.join("ca.crt")),
            want,
            "{cert:?} {bundle:?}"
        );
    }
    assert!(refused(at, &["ca", "rotate"], 1).contains("is being replaced already"));
    let said = refused(at, &["ca", "rotate", "--finish"], 1);
    assert!(said.contains("certificates of the old key are good until 20"), "{said}");
    done(at, &["ca", "rotate", "--finish", "--force"]);
    done(at, &["ca", "issue", "last"]);
    let last = at.join("ca/issued/last");
    assert_eq!(certificates(&last.join("ca.crt")).len(), 1);
    assert_eq!(certificates(&last.join("tls.crt")).len(), 1);
    assert!(
        !is_believed(&old.join("tls.crt"), &last.join("ca.crt")),
        "the old key is over"
    );
    assert!(is_believed(&new.join("tls.crt"), &last.join("ca.crt")));
    assert!(is_believed(&last.join("tls.crt"), &new.join("ca.crt")));
    // And once more.
    done(at, &["ca", "rotate"]);
}

#[test]
fn who_calls_wrongly_is_told_how_to_call() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    assert!(refused(at, &["ca", "issue", "users"], 1).contains("make one with: mosaic ca init"));
    for wrong in [
        &["ca", "issue"][..],
        &["ca", "issue", "Users"],
        &["ca", "issue", "users", "--ip", "nowhere"],
        &["ca", "issue", "users", "--days", "0"],
        &["ca", "rotate", "--force"],
        &["ca", "renew"],
        &["ca"],
        &[],
    ] {
        let said = refused(at, wrong, 2);
        assert!(
            said.contains("Usage: mosaic") || said.contains("try '--help'"),
            "{wrong:?}: {said}"
        );
    }
    for help in [
        &["--help"][..],
        &["ca", "--help"],
        &["ca", "issue", "--help"],
        &["ca", "rotate", "--help"],
    ] {
        assert!(done(at, help).contains("Usage: mosaic"), "{help:?}");
    }
    done(at, &["ca", "init"]);
    fs::write(at.join("ca/ca.key"), "nonsense").unwrap();
    assert!(refused(at, &["ca", "issue", "users"], 1).contains("ca/ca.key is damaged"));
    assert!(refused(at, &["ca", "issue", "users", "--dns", "no host"], 1).starts_with("mosaic: "));
}
