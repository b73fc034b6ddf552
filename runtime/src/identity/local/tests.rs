use serde_json::Value;

use super::*;

#[path = "../../../../core/tests/support/fixtures.rs"]
mod fixtures;

fn caller(text: &str) -> KnownCaller {
    text.parse().unwrap()
}

fn ring() -> KeyRing {
    KeyRing::from_secret(&[b's'; 32]).unwrap()
}

fn verify_token(ring: &KeyRing, token: &str, service: CalledService) -> Result<KnownCaller, String> {
    let verified = ring.token_verifier().verify(token, service, now_seconds());
    verified.map(|verified| verified.caller).map_err(|rejected| rejected.to_string())
}

#[test]
fn each_caller_signs_with_a_key_of_its_own() {
    let ring = ring();
    for text in ["gateway", "operator", "manager", "reader/r-1", "reader/ä b/c"] {
        let token = ring.token_source(&caller(text)).unwrap().token(CalledService::Manager).unwrap();
        assert_eq!(verify_token(&ring, &token, CalledService::Manager), Ok(caller(text)));
        let other = KeyRing::from_secret(&[b't'; 32]).unwrap();
        assert!(verify_token(&other, &token, CalledService::Manager).is_err(), "another secret's");
    }
}

#[test]
fn a_token_is_good_at_one_service() {
    let ring = ring();
    let token = ring.token_source(&caller("cli")).unwrap().token(CalledService::Statistics).unwrap();
    assert!(verify_token(&ring, &token, CalledService::Statistics).is_ok());
    assert!(verify_token(&ring, &token, CalledService::Manager).unwrap_err().contains("InvalidAudience"));
}

#[test]
fn a_token_expires() {
    let (ring, now) = (ring(), now_seconds());
    let tokens = ring.token_source(&caller("cli")).unwrap();
    let at = |from, life| {
        verify_token(&ring, &tokens.sign_token(CalledService::Manager, from, life), CalledService::Manager)
    };
    assert!(at(now, 60).is_ok());
    assert!(at(now - 3_600, 60).unwrap_err().contains("Expired"));
    assert!(at(now + 3_600, 60).unwrap_err().contains("Immature"));
    assert!(at(now, u64::MAX / 2).is_ok(), "a day at most");
    // The same token is returned while it is in use; a new one is made in time.
    assert_eq!(tokens.token(CalledService::Manager).unwrap(), tokens.token(CalledService::Manager).unwrap());
}

/// Returns a token with this header and these claims, signed by `signer`.
fn forge_token(signer: &str, header: &serde_json::Value, claims: &serde_json::Value) -> String {
    let tokens = ring().token_source(&caller(signer)).unwrap();
    let text = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", text(header), text(claims));
    let signature = URL_SAFE_NO_PAD.encode(tokens.key_pair.sign(message.as_bytes()));
    format!("{message}.{signature}")
}

#[test]
fn a_reader_s_key_signs_for_that_reader_alone() {
    let now = now_seconds();
    let header = |kid: &str, alg: &str| json!({ "alg": alg, "kid": kid });
    let claims = |more: serde_json::Value| {
        let mut claims = json!({ "iss": "liverank", "sub": "reader/r1", "aud": "manager", "iat": now, "nbf": now, "exp": now + 60 });
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        claims
    };
    let good = forge_token("reader/r1", &header("reader/r1", "EdDSA"), &claims(json!({})));
    assert_eq!(verify_token(&ring(), &good, CalledService::Manager), Ok(caller("reader/r1")));
    for (kid, alg, more) in [
        ("operator", "EdDSA", json!({ "sub": "operator" })),
        ("reader/r2", "EdDSA", json!({ "sub": "reader/r2" })),
        ("reader/r1", "EdDSA", json!({ "sub": "operator" })),
        ("reader/r1", "EdDSA", json!({ "sub": "reader/r2" })),
        ("nobody", "EdDSA", json!({})),
        ("reader/r1", "none", json!({})),
        ("reader/r1", "HS256", json!({})),
        ("reader/r1", "EdDSA", json!({ "iss": "somebody" })),
        ("reader/r1", "EdDSA", json!({ "aud": "statistics" })),
        ("reader/r1", "EdDSA", json!({ "exp": now - 60 })),
        ("reader/r1", "EdDSA", json!({ "exp": now + 10 * MAX_TOKEN_LIFE_SECONDS })),
        ("reader/r1", "EdDSA", json!({ "nbf": now + 60 })),
    ] {
        let token = forge_token("reader/r1", &header(kid, alg), &claims(more.clone()));
        assert!(verify_token(&ring(), &token, CalledService::Manager).is_err(), "{kid} {alg} {more}");
    }
    for missing in ["iss", "sub", "aud", "nbf", "exp"] {
        let mut less = claims(json!({}));
        less.as_object_mut().unwrap().remove(missing);
        let token = forge_token("reader/r1", &header("reader/r1", "EdDSA"), &less);
        assert!(verify_token(&ring(), &token, CalledService::Manager).is_err(), "without {missing}");
    }
    let mut cut = good.clone();
    cut.truncate(good.len() - 2);
    for wrong in [String::new(), "a.b.c".into(), cut, good.replace('.', ""), "x".repeat(100_000)] {
        assert!(verify_token(&ring(), &wrong, CalledService::Manager).is_err());
    }
}

#[test]
fn a_derived_key_file_identifies_one_process() {
    let directory = tempfile::tempdir().unwrap();
    let (secret, own) = (directory.path().join("secret"), directory.path().join("own"));
    std::fs::write(&secret, format!("{}\n", "s".repeat(32))).unwrap();
    let all = KeyRing::from_file(&secret).unwrap();
    let reader = caller("reader/r1");
    std::fs::write(&own, all.key_file_of(&reader).unwrap()).unwrap();
    let one = KeyRing::from_file(&own).unwrap();
    let token = one.token_source(&reader).unwrap().token(CalledService::Manager).unwrap();
    assert_eq!(verify_token(&all, &token, CalledService::Manager), Ok(reader.clone()));
    for other in ["reader/r2", "operator", "manager"] {
        assert!(one.token_source(&caller(other)).is_err(), "{other}");
    }
    assert!(one.key_file_of(&reader).is_err());
    // The key file of one process has the keys of the roles, and of no reader.
    let of = |who: &str| all.token_source(&caller(who)).unwrap().token(CalledService::Statistics).unwrap();
    assert_eq!(verify_token(&one, &of("cli"), CalledService::Statistics), Ok(caller("cli")));
    assert!(verify_token(&one, &of("reader/r2"), CalledService::Statistics).is_err());

    for wrong in [&b"short"[..], b"", b"{}", br#"{"format":2,"subject":"cli","seed":"","keys":{}}"#] {
        std::fs::write(&own, wrong).unwrap();
        assert!(KeyRing::from_file(&own).is_err(), "{}", String::from_utf8_lossy(wrong));
    }
    assert!(KeyRing::from_file(directory.path()).is_err());
}

/// Checks that the format of a key file is stable: its subject, its own key, and the keys that it knows.
#[test]
fn the_key_file_of_one_process_is_read_by_the_release_before_and_the_next_one() {
    type DerivedKeys = (String, KeySeed, BTreeMap<String, Vec<u8>>);
    let read = |json: &Value| match &*KeyRing::from_derived_file(json.to_string().as_bytes())?.0 {
        RingKeys::SingleProcess { subject, seed, known } => {
            anyhow::Ok((subject.to_string(), *seed, known.clone()))
        }
        RingKeys::Secret(_) => bail!("a secret"),
    };
    let write = |_: &DerivedKeys| {
        let file = ring().key_file_of(&caller("reader/r1")).unwrap();
        serde_json::from_str::<Value>(&file).unwrap()
    };
    let roles = CallerRole::ALL.into_iter().filter_map(KnownCaller::of_role);
    let secret = [b's'; 32];
    let known =
        roles.map(|role| (role.to_string(), public_key_of_seed(&derive_seed(&secret, &role)))).collect();
    let today: DerivedKeys = ("reader/r1".to_owned(), derive_seed(&secret, &caller("reader/r1")), known);
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
    fixtures::check(&fixtures::Format { directory, name: "key-file", write, read }, &today);
}
