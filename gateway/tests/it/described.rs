//! Every JSON answer that a test gets is held against the description of the API.

use std::sync::LazyLock;

use poem::{Endpoint, Request, Response, endpoint::BoxEndpoint, http::Method};
use serde_json::{Value, json};

static DESCRIPTION: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(&lmao_gateway::openapi_json()).expect("the description is JSON"));

/// A gateway whose answers are compared with their description before a test sees them.
pub(crate) struct Described<'a>(pub(crate) &'a BoxEndpoint<'static, Response>);

impl Endpoint for Described<'_> {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let mut response = self.0.call(request).await?;
        let kind = response.content_type().unwrap_or_default().to_owned();
        let is_plain = !response.headers().contains_key("content-encoding") && method != Method::HEAD;
        // The description itself is described nowhere.
        if is_plain && kind.contains("json") && path != "/openapi.json" {
            let bytes = response.take_body().into_bytes().await.unwrap();
            let schema = schema(&method, &path, response.status().as_u16());
            for line in bytes.split(|byte| *byte == b'\n' && kind.contains("ndjson")).filter(|line| !line.is_empty()) {
                let answer = serde_json::from_slice(line).unwrap();
                let faults = faults(&schema, &answer);
                assert!(faults.is_empty(), "{method} {path} is not as described: {faults:?}\n{answer:#}");
            }
            response.set_body(bytes);
        }
        Ok(response)
    }
}

/// What is described for an answer; what has no description of its own is an error.
fn schema(method: &Method, path: &str, status: u16) -> Value {
    let fits = |template: &str| {
        let (wanted, given): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
        wanted.len() == given.len()
            && wanted.iter().zip(given).all(|(wanted, given)| wanted.starts_with('{') || *wanted == given)
    };
    let paths = DESCRIPTION["paths"].as_object().unwrap().iter().filter(|(template, _)| fits(template));
    let operations = paths.min_by_key(|(template, _)| template.matches('{').count()).map(|(_, operations)| operations);
    let responses = operations.map(|operations| &operations[method.as_str().to_lowercase()]["responses"]);
    let described = responses.and_then(|all| all.get(status.to_string()).or_else(|| all.get("default")));
    let content = described.and_then(|response| response["content"].as_object()?.values().next());
    content.map_or_else(|| json!({ "$ref": "#/components/schemas/Error" }), |content| content["schema"].clone())
}

/// Where an answer is not what a schema says.
fn faults(schema: &Value, value: &Value) -> Vec<String> {
    let mut faults = vec![];
    check(schema, value, "", &mut faults);
    faults
}

fn check(schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let pointer = name.trim_start_matches('#');
        return check(DESCRIPTION.pointer(pointer).expect(name), value, at, faults);
    }
    if value.is_null() && schema["nullable"] == true {
        return;
    }
    for all in schema["allOf"].as_array().into_iter().flatten() {
        check(all, value, at, faults);
    }
    let fits = match schema["type"].as_str() {
        None => true,
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        Some(other) => panic!("a type that this does not know: {other}"),
    };
    if !fits {
        faults.push(format!("{at} is {value}, described as {}", schema["type"]));
    }
    if let Some(known) = schema["enum"].as_array().filter(|known| !known.contains(value)) {
        faults.push(format!("{at} is {value}, described as one of {known:?}"));
    }
    for (n, item) in value.as_array().into_iter().flatten().enumerate() {
        check(&schema["items"], item, &format!("{at}[{n}]"), faults);
    }
    if let Some(fields) = value.as_object() {
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        faults.extend(required.filter(|name| !fields.contains_key(*name)).map(|name| format!("{at}.{name} is absent")));
        for (name, value) in fields {
            match schema["properties"].get(name).or_else(|| schema.get("additionalProperties")) {
                Some(schema) => check(schema, value, &format!("{at}.{name}"), faults),
                None if schema["properties"].is_object() => faults.push(format!("{at}.{name} is not described")),
                None => {}
            }
        }
    }
}

#[test]
fn what_is_not_as_described_is_seen() {
    let page = json!({ "$ref": "#/components/schemas/DocumentsResponse" });
    assert_eq!(faults(&page, &json!({ "documents": [], "next": null, "total": 0 })), Vec::<String>::new());
    assert_eq!(faults(&page, &json!({ "documents": [], "total": null })), [".total is null, described as \"integer\""]);
    assert_eq!(faults(&page, &json!({ "documents": [], "total": 0, "more": 1 })), [".more is not described"]);
    assert!(
        faults(&page, &json!({ "documents": [{}], "total": 0 })).contains(&".documents[0].status is absent".to_owned())
    );
}
