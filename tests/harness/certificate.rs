//! A certificate for a Redis that is spoken to over TLS.

use std::process::Command;

/// A certificate of `localhost` that vouches for itself.
pub struct Certificate {
    /// The file that holds it.
    pub certificate: String,
    /// The file of its key.
    pub key: String,
}

impl Certificate {
    /// Makes one in files of this name.
    pub fn make(name: &str) -> Self {
        let directory = super::directory("certificates");
        let file = |kind| {
            let path = directory.join(format!("{name}.{kind}.pem"));
            path.to_str().unwrap().to_owned()
        };
        let (certificate, key) = (file("certificate"), file("key"));
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
            ])
            .args(["-nodes", "-days", "2", "-subj", "/CN=localhost"])
            .args(["-addext", "subjectAltName=DNS:localhost"])
            .args(["-keyout", &key, "-out", &certificate])
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        Self { certificate, key }
    }
}
