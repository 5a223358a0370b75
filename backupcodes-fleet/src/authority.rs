//! Who made a set. The permissions of etcd prove it too, but some versions let each of their users do everything: so a set is signed
//! with the key of the administrators, and each host checks that.

use std::fmt::Display;
use std::sync::Arc;

use base64ct::{Base64, Encoding};
use rustls::SignatureScheme;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::crypto::ring::{default_provider, sign};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, TrustAnchor, UnixTime};
use rustls::sign::SigningKey;
use serde::{Deserialize, Serialize};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_cert::der::Decode;

use crate::etcd::Tls;

/// The common name of the certificate that signs sets, and its user in etcd.
pub(crate) const ADMIN: &str = "backupcodes-admin";

/// As long as the label of a set.
const DECOY: &[u8] = &[b'x'; 300];

/// The authority of the configuration, and this host's certificate of it.
pub(crate) struct Authority {
    anchors: Vec<TrustAnchor<'static>>,
    signer: Signer,
    algorithms: WebPkiSupportedAlgorithms,
    /// By this host's key, whoever it is.
    decoy: Signature,
}

/// This host.
struct Signer {
    /// PEM: its certificate, and what is between that and the authority.
    chain: String,
    key: Arc<dyn SigningKey>,
}

/// What proves that an administrator has written something.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Signature {
    /// PEM: the certificate of the key, and what is between it and the authority.
    certificate: String,
    /// The number of the algorithm in TLS.
    scheme: u16,
    /// In Base64.
    value: String,
}

impl Authority {
    /// # Errors
    /// A file is no PEM, or its algorithm is not known.
    pub(crate) fn new(tls: &Tls) -> Result<Self, String> {
        let authorities =
            CertificateDer::pem_slice_iter(&tls.ca).collect::<Result<Vec<_>, _>>().map_err(text)?;
        let anchor = |one| anchor_from_trusted_cert(one).map(|anchor| anchor.to_owned());
        let key = PrivateKeyDer::from_pem_slice(&tls.key).map_err(text)?;
        let signer = Signer {
            chain: String::from_utf8(tls.certificate.clone()).map_err(text)?,
            key: sign::any_supported_type(&key).map_err(text)?,
        };
        let algorithms = default_provider().signature_verification_algorithms;
        Ok(Self {
            anchors: authorities.iter().map(anchor).collect::<Result<_, _>>().map_err(text)?,
            decoy: signer.sign(DECOY, &algorithms)?,
            signer,
            algorithms,
        })
    }

    /// Signs a message so that all hosts see that an administrator has written it.
    ///
    /// # Errors
    /// No host would believe it: the certificate is not the administrators'.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Signature, String> {
        let signature = self.signer.sign(message, &self.algorithms)?;
        self.verify(message, &signature)?;
        Ok(signature)
    }

    /// Takes the time of [`verify`](Self::verify), so that a reply does not tell by its time that a user has no set.
    pub(crate) fn verify_nothing(&self) {
        let _ = self.verify(DECOY, &self.decoy);
    }

    /// # Errors
    /// No administrator has signed the message.
    pub(crate) fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), String> {
        let Signature { certificate, scheme, value } = signature;
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(text)?;
        let (leaf, between) = chain.split_first().ok_or("no certificate")?;
        let details = x509_cert::Certificate::from_der(leaf).map_err(text)?;
        let details = details.tbs_certificate();
        // What was signed stays good when the certificate ends.
        let then = UnixTime::since_unix_epoch(details.validity().not_before.to_unix_duration());
        let leaf = EndEntityCert::try_from(leaf).map_err(text)?;
        let usage = KeyUsage::client_auth();
        leaf.verify_for_usage(self.algorithms.all, &self.anchors, between, then, usage, None, None)
            .map_err(text)?;
        let value = Base64::decode_vec(value).map_err(text)?;
        let of_scheme =
            self.algorithms.mapping.iter().filter(|(one, _)| *one == SignatureScheme::from(*scheme));
        let is_signed = of_scheme
            .flat_map(|(_, algorithms)| *algorithms)
            .any(|algorithm| leaf.verify_signature(*algorithm, message, &value).is_ok());
        if !is_signed {
            return Err("another text was signed".into());
        }
        let name = details.subject().common_name().map_err(text)?.map(|name| name.value().into_owned());
        if name.as_deref() != Some(ADMIN) {
            return Err(format!("the certificate is of {}; expected {ADMIN}", name.unwrap_or_default()));
        }
        Ok(())
    }
}

impl Signer {
    fn sign(&self, message: &[u8], algorithms: &WebPkiSupportedAlgorithms) -> Result<Signature, String> {
        let schemes: Vec<_> = algorithms.mapping.iter().map(|(scheme, _)| *scheme).collect();
        let signer = self.key.choose_scheme(&schemes).ok_or("its key cannot sign")?;
        let value = Base64::encode_string(&signer.sign(message).map_err(text)?);
        Ok(Signature { certificate: self.chain.clone(), scheme: signer.scheme().into(), value })
    }
}

fn text(error: impl Display) -> String {
    error.to_string()
}
