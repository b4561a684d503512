//! TLS by certificates of the user's own, for the drivers that take no file of them by themselves.

use std::{
    error::Error,
    io,
    path::{Path, PathBuf},
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{
        CertificateDer,
        pem::{self, PemObject as _},
    },
};

/// Why a file of certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the certificates in {} cannot be used; it has to be a file in PEM with at least one", path.display())]
pub struct CertificatesError {
    path: PathBuf,
    #[source]
    source: Box<dyn Error + Send + Sync>,
}

/// A client that trusts whom these certificates have signed, and nobody else.
pub(crate) fn trusting(path: &Path) -> Result<ClientConfig, CertificatesError> {
    let roots = roots(path).map_err(|source| CertificatesError { path: path.to_owned(), source })?;
    let provider = rustls::crypto::ring::default_provider();
    let builder = ClientConfig::builder_with_provider(provider.into()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| CertificatesError { path: path.to_owned(), source: error.into() })?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Whether an error comes from TLS not being agreed on, as with a certificate that nobody here trusts.
pub(crate) fn is_refused(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        // An I/O error passes over what it holds when it is asked for its source.
        let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if error.is::<rustls::Error>() || held.is_some_and(|held| is_refused(held)) {
            return true;
        }
        cause = error.source();
    }
    false
}

fn roots(path: &Path) -> Result<RootCertStore, Box<dyn Error + Send + Sync>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path)? {
        roots.add(certificate?)?;
    }
    if roots.is_empty() {
        return Err(pem::Error::NoItemsFound.into());
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_without_certificates_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        assert!(trusting(&path).unwrap_err().to_string().contains("ca.pem"));
        for text in ["", "words", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            std::fs::write(&path, text).unwrap();
            assert!(trusting(&path).is_err(), "{text}");
        }
    }
}
