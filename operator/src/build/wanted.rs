//! A wanted object in the form in which it is kept between looks: as text, with the few facts that every look reads. A
//! look at rest parses no text. As text an object takes less memory than as a tree of values.

use serde_json::Value;

use super::Component;
use super::object::{self, Kind, Object};

/// An object that a cluster is to have, and the hash of its text. The text is what is written and compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedObject {
    /// The kind of the object.
    pub kind: Kind,
    /// The object's name; its namespace is the cluster's.
    pub name: Box<str>,
    /// The component that the object belongs to; `None` if it belongs to all components.
    pub component: Option<Component>,
    /// Whether the object belongs to a single reader, whose name it has.
    pub is_of_reader: bool,
    /// The hash of the object's text as 16 hexadecimal digits.
    pub hash: Box<str>,
    /// The hash of the wanted pod template ([`Object::template_hash`]); `None` if the object is no Deployment.
    pub template_hash: Option<Box<str>>,
    /// The value of `spec.replicas`; `None` if the object has no such field.
    pub replicas: Option<i64>,
    /// The object as JSON.
    text: Box<str>,
}

impl WantedObject {
    /// Makes the kept form of an object.
    pub fn of(object: &Object) -> Self {
        let text = object.body.to_string();
        Self {
            kind: object.kind,
            name: object.name.as_str().into(),
            component: object.component,
            is_of_reader: object.reader.is_some(),
            hash: object::hash_text(&text).into(),
            template_hash: object.template_hash().map(Box::from),
            replicas: object.body["spec"]["replicas"].as_i64(),
            text: text.into(),
        }
    }

    /// Returns the object as JSON.
    pub fn body(&self) -> Value {
        serde_json::from_str(&self.text).expect("was written by us from a value")
    }

    /// Returns the object in the builder's form.
    pub fn to_object(&self) -> Object {
        Object {
            kind: self.kind,
            name: self.name.to_string(),
            component: self.component,
            reader: self.is_of_reader.then(|| self.name.to_string()),
            body: self.body(),
        }
    }

    /// Returns the same object with another value of `spec.replicas`.
    #[must_use]
    pub fn with_replicas(&self, replicas: i64) -> Self {
        let mut object = self.to_object();
        object.body["spec"]["replicas"] = replicas.into();
        Self::of(&object)
    }

    /// Returns the same Deployment with the pod template of `live`; see [`Object::with_template_of`].
    #[must_use]
    pub fn with_template_of(&self, live: &Value) -> Self {
        Self::of(&self.to_object().with_template_of(live))
    }

    /// Returns the place of the object among the objects of its cluster.
    pub(super) fn place_in_order(&self) -> (Kind, Option<Component>, bool) {
        object::place_in_order(self.kind, self.component, self.is_of_reader)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::build::names;

    fn deployment() -> Object {
        Object {
            kind: Kind::Deployment,
            name: "live-reader-0".to_owned(),
            component: Some(Component::Reader),
            reader: Some("live-reader-0".to_owned()),
            body: json!({
                "metadata": {"annotations": {names::TEMPLATE_HASH_ANNOTATION: "new"}},
                "spec": {"replicas": 1, "template": {"image": "new"}},
            }),
        }
    }

    #[test]
    fn the_kept_form_gives_the_object_back_and_has_the_hash_of_its_text() {
        let object = deployment();
        let kept = WantedObject::of(&object);
        assert_eq!(kept.to_object(), object);
        assert_eq!(*kept.hash, *object::hash(&object.body));
        assert_eq!((kept.template_hash.as_deref(), kept.replicas), (Some("new"), Some(1)));
    }

    #[test]
    fn a_changed_form_is_that_of_the_changed_object() {
        let mut object = deployment();
        let kept = WantedObject::of(&object);
        let live = json!({
            "metadata": {"annotations": {names::TEMPLATE_HASH_ANNOTATION: "old"}},
            "spec": {"template": {"image": "old"}},
        });
        assert_eq!(kept.with_template_of(&live), WantedObject::of(&object.with_template_of(&live)));
        assert_eq!(kept.with_template_of(&live).template_hash.as_deref(), Some("old"));
        object.body["spec"]["replicas"] = 0.into();
        assert_eq!(kept.with_replicas(0), WantedObject::of(&object));
        assert_ne!(kept.with_replicas(0).hash, kept.hash);
    }
}
