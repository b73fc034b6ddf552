//! The API server's request to convert objects (`ConversionReview`), and the answer to it.
//!
//! A list may have hundreds of objects: each is parsed and converted alone, so that a request takes little more memory
//! than its text.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::convert::{ConversionError, Version, convert_object};

const API_VERSION: &str = "apiextensions.k8s.io/v1";
const KIND: &str = "ConversionReview";

#[derive(Deserialize)]
struct Review<'a> {
    #[serde(borrow)]
    request: Request<'a>,
}

#[derive(Deserialize)]
struct Request<'a> {
    uid: String,
    #[serde(rename = "desiredAPIVersion")]
    desired: String,
    #[serde(borrow)]
    objects: Vec<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    api_version: &'static str,
    kind: &'static str,
    response: Response,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    uid: String,
    converted_objects: Vec<Box<RawValue>>,
    result: Value,
}

/// The answer to the API server's request to convert objects, and the reason if they were not converted.
#[derive(Debug)]
pub struct ConversionReply {
    /// The answer as JSON.
    pub body: String,
    /// The reason why no object was converted; `None` if all objects were.
    pub refusal: Option<String>,
}

/// Converts the objects of a request, all or none.
///
/// # Errors
/// `body` is no request.
pub fn answer_review(body: &[u8]) -> Result<ConversionReply, serde_json::Error> {
    let Review { request } = serde_json::from_slice(body)?;
    let converted = convert_all(&request);
    let (converted_objects, result, refusal) = match converted {
        Ok(objects) => (objects, json!({ "status": "Success" }), None),
        Err(message) => (Vec::new(), json!({ "status": "Failure", "message": message }), Some(message)),
    };
    let response = Response { uid: request.uid, converted_objects, result };
    let answer = Answer { api_version: API_VERSION, kind: KIND, response };
    Ok(ConversionReply { body: serde_json::to_string(&answer)?, refusal })
}

fn convert_all(request: &Request<'_>) -> Result<Vec<Box<RawValue>>, String> {
    let Some(wanted) = Version::of_api_version(&request.desired) else {
        return Err(format!("{} is no version of RankingCluster", request.desired));
    };
    request.objects.iter().map(|object| convert_one(object, wanted)).collect()
}

fn convert_one(text: &RawValue, wanted: Version) -> Result<Box<RawValue>, String> {
    let object: Value = serde_json::from_str(text.get()).map_err(|error| error.to_string())?;
    let named = |error: &ConversionError| {
        let part = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
        format!("RankingCluster {}/{}: {error}", part("namespace"), part("name"))
    };
    let converted = convert_object(&object, wanted).map_err(|error| named(&error))?;
    serde_json::value::to_raw_value(&converted).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(desired: &str, objects: &Value) -> Value {
        let request = json!({"uid": "705ab4f5", "desiredAPIVersion": desired, "objects": objects});
        let review = json!({"apiVersion": API_VERSION, "kind": KIND, "request": request});
        let answered = answer_review(review.to_string().as_bytes()).unwrap();
        let answer: Value = serde_json::from_str(&answered.body).unwrap();
        assert_eq!((&answer["apiVersion"], &answer["kind"]), (&json!(API_VERSION), &json!(KIND)));
        assert_eq!(answer["response"]["uid"], "705ab4f5");
        let refused = answered.refusal.map_or(Value::Null, Value::from);
        assert_eq!(answer["response"]["result"]["message"], refused);
        answer["response"].clone()
    }

    fn object(version: &str, spec: &Value) -> Value {
        json!({"apiVersion": format!("liverank.dev/{version}"), "kind": "RankingCluster",
            "metadata": {"name": "live", "namespace": "tv", "uid": "6c1e"}, "spec": spec, "status": {"a": 1}})
    }

    #[test]
    fn objects_are_converted_in_their_order() {
        let objects =
            json!([object("v1alpha1", &json!({"paused": true})), object("v1beta1", &json!({"image": "a"}))]);
        let response = answer("liverank.dev/v1beta1", &objects);
        let wanted = [
            object("v1beta1", &json!({"reconciliation": "Paused"})),
            object("v1beta1", &json!({"image": "a"})),
        ];
        assert_eq!(response["convertedObjects"], json!(wanted));
        assert_eq!(response["result"], json!({"status": "Success"}));
    }

    #[test]
    fn one_object_that_cannot_be_converted_refuses_all_and_is_named() {
        let good = object("v1beta1", &json!({}));
        let bad = object("v1beta1", &json!({"readers": {"drain": {"timeout": "soon"}}}));
        let response = answer("liverank.dev/v1alpha1", &json!([good, bad]));
        assert_eq!(response["convertedObjects"], json!([]));
        assert_eq!(
            response["result"],
            json!({"status": "Failure", "message": "RankingCluster tv/live: spec.readers.drain.timeout: \"soon\" is \
                not a duration: write one such as 30s, 5m or 1h30m"})
        );
    }

    #[test]
    fn unknown_versions_and_other_bodies_are_refused() {
        let response = answer("liverank.dev/v2", &json!([object("v1alpha1", &json!({}))]));
        assert_eq!(response["result"]["message"], "liverank.dev/v2 is no version of RankingCluster");
        for body in ["", "{}", "[]", "{\"request\": {\"uid\": 1}}"] {
            assert!(answer_review(body.as_bytes()).is_err(), "{body}");
        }
    }
}
