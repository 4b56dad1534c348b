//! Whom a TLS connection to Redis trusts.
//!
//! Called by `dial`. Never opens a socket.

use std::error::Error;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::config::RedisTls;

/// Trusts the certificates of the file that is named, else those of this machine; or anybody,
/// where the operator says so.
pub(super) fn tls_config(tls: &RedisTls) -> Result<ClientConfig, Box<dyn Error>> {
    let provider = Arc::new(default_provider());
    let trust = Trust::of(tls, &provider)?;
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(trust))
        .with_no_client_auth())
}

/// Who is taken for Redis.
#[derive(Debug)]
struct Trust {
    provider: Arc<CryptoProvider>,
    /// Certificates that the operator named.
    named: Vec<CertificateDer<'static>>,
    /// Who is vouched for by an authority; `None` = anybody is taken for Redis.
    vouched: Option<Arc<WebPkiServerVerifier>>,
}

impl Trust {
    fn of(tls: &RedisTls, provider: &Arc<CryptoProvider>) -> Result<Self, Box<dyn Error>> {
        let mut trust = Self {
            provider: Arc::clone(provider),
            named: Vec::new(),
            vouched: None,
        };
        if !tls.verify {
            return Ok(trust);
        }
        let mut roots = RootCertStore::empty();
        if let Some(path) = &tls.ca {
            let named: Result<_, _> = CertificateDer::pem_file_iter(path)?.collect();
            trust.named = named?;
            roots.add_parsable_certificates(trust.named.iter().cloned());
        } else {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        let provider = Arc::clone(provider);
        let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        trust.vouched = Some(builder.build()?);
        Ok(trust)
    }
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.vouched {
            // One that signed itself vouches for nobody, but it may be the very one that is named.
            Some(vouched) if !self.named.contains(certificate) => {
                vouched.verify_server_cert(certificate, intermediates, name, ocsp, now)
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
