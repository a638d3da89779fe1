//! How TLS is spoken to nodes: which certificates are trusted, and this program's own.

use std::path::Path;
use std::sync::Arc;

use riverrun_engine::{Error, Result};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::config::Tls;

/// The client's side of TLS. Reads the files that the options name.
pub(super) fn client(tls: &Tls) -> Result<Arc<ClientConfig>> {
    // Named, since more than one is compiled in.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = Arc::new(roots(tls)?);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
    let verifier = verifier.map_err(|e| Error::invalid(format!("TLS: {e}")))?;
    let verifier: Arc<dyn ServerCertVerifier> = if tls.check_address { verifier } else { Arc::new(AnyAddress(verifier)) };
    let config = with_provider(provider)?.dangerous().with_custom_certificate_verifier(verifier);
    let Some((certificate, key)) = &tls.identity else { return Ok(Arc::new(config.with_no_client_auth())) };
    let chain = certificates("ssl_certificate_location", certificate)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|e| unreadable("ssl_key_location", key, &e.to_string()))?;
    let config = config.with_client_auth_cert(chain, key);
    let config =
        config.map_err(|e| Error::invalid(format!("option 'ssl_certificate_location': the key does not fit it: {e}")))?;
    Ok(Arc::new(config))
}

fn with_provider(provider: Arc<CryptoProvider>) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>> {
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    builder.map_err(|e| Error::permanent(format!("TLS: {e}")))
}

fn roots(tls: &Tls) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let Some(path) = &tls.ca else {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        return match roots.is_empty() {
            true => Err(Error::invalid("the system has no certificates to trust").hint("name a file: ssl_ca_location = '…'")),
            false => Ok(roots),
        };
    };
    for certificate in certificates("ssl_ca_location", path)? {
        roots.add(certificate).map_err(|e| unreadable("ssl_ca_location", path, &e.to_string()))?;
    }
    Ok(roots)
}

fn certificates(option: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(found) if found.is_empty() => Err(unreadable(option, path, "it holds no certificate (PEM)")),
        Ok(found) => Ok(found),
        Err(e) => Err(unreadable(option, path, &e.to_string())),
    }
}

fn unreadable(option: &str, path: &Path, why: &str) -> Error {
    Error::invalid(format!("option '{option}': '{}' cannot be used: {why}", path.display()))
}

/// Trusts a certificate for whatever address it is for (`ssl_endpoint_identification = 'none'`); all else is checked.
#[derive(Debug)]
struct AnyAddress(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyAddress {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use CertificateError::{NotValidForName, NotValidForNameContext};
        // The name is what is looked at last.
        match self.0.verify_server_cert(certificate, chain, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => {
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
