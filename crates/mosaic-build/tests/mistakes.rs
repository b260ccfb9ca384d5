//! Every mistake in a contract is a build error that names file, line and column.

use std::fs;

use mosaic_build::Builder;

/// Lines 1 to 9 of every contract here; a case begins on line 10.
const HEAD: &str = r#"syntax = "proto3";
package bad.v1;
import "buf/validate/validate.proto";
import "google/api/annotations.proto";
import "google/protobuf/any.proto";
import "google/protobuf/timestamp.proto";
import "mosaic/v1/options.proto";
message Empty {}

"#;

/// Compiles `contract` and compares what is wrong with it, each line without the folder.
#[track_caller]
fn check(contract: &str, want: &[&str]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path().join("proto");
    fs::create_dir(&root).expect("an empty folder");
    fs::write(root.join("x.proto"), format!("{HEAD}{contract}")).expect("a file");
    let error = Builder::new(&root)
        .generate(&["x.proto"])
        .expect_err("the contract is wrong");
    let prefix = format!("{}/", root.display());
    let found = error.to_string().replace(&prefix, "");
    let found: Vec<&str> = found.lines().collect();
    if std::env::var_os("SHOW").is_some() {
        eprintln!("{contract}\n=> {found:#?}");
        return;
    }
    assert_eq!(found, want, "\n{contract}");
}

/// A contract with one method that has `options`, which begin on line 12.
fn method(options: &str) -> String {
    format!("service S {{\nrpc Do(Request) returns (Reply) {{\n{options}\n}}\n}}\n{MESSAGES}")
}

const MESSAGES: &str = "message Request {
  string id = 1;
  Inner inner = 2;
  repeated Inner inners = 3;
  oneof one { string a = 4; Inner b = 5; }
}
message Inner { string id = 1; }
message Reply { string id = 1; }
";

/// A contract with one field of `declaration` on line 11.
fn field(declaration: &str) -> String {
    format!("message M {{\n{declaration}\n}}\n")
}

#[test]
fn the_language() {
    check("message M { strin x = 1; }", &["x.proto:10:13: PLACE"]);
    check("message {", &["x.proto:10:13: PLACE"]);
    check("message M {}\nimport \"missing.proto\";", &["x.proto:10:13: PLACE"]);
    check(
        "service S {\nrpc Do(stream Empty) returns (Empty);\n}",
        &["x.proto:10:13: PLACE"],
    );
    check(
        "service S {\nrpc Do(google.protobuf.Timestamp) returns (Empty);\n}",
        &["x.proto:10:13: PLACE"],
    );
    check(&field("google.protobuf.Any x = 1;"), &["x.proto:10:13: PLACE"]);
    check(
        &field("string x = 1;\nstring y = 2 [json_name = \"x\"];"),
        &["x.proto:10:13: PLACE"],
    );
}

#[test]
fn options_of_methods() {
    let ours = |text: &str| method(&format!("option (mosaic.v1.method) = {{{text}}};"));
    check(&ours("acess: PUBLIC"), &["PLACE"]);
    check(&ours("access: EVERYBODY"), &["PLACE"]);
    check(&ours("access: ROLE"), &["PLACE"]);
    check(&ours("access: PUBLIC role: \"admin\""), &["PLACE"]);
    check(&ours("timeout: \"2 seconds\""), &["PLACE"]);
    check(&ours("rate {calls: 0 per: \"1m\"}"), &["PLACE"]);
    check(&ours("rate {calls: 1}"), &["PLACE"]);
    check(
        &method(
            "option (mosaic.v1.method) = {access: INTERNAL};\noption (google.api.http) = {post: \"/do\" body: \"*\"};",
        ),
        &["PLACE"],
    );
}

#[test]
fn http_rules() {
    let http = |text: &str| method(&format!("option (google.api.http) = {{{text}}};"));
    check(&http("body: \"*\""), &["PLACE"]);
    check(&http("get: \"/do\" body: \"*\""), &["PLACE"]);
    check(&http("post: \"do\" body: \"*\""), &["PLACE"]);
    check(&http("post: \"/do//it\" body: \"*\""), &["PLACE"]);
    check(&http("post: \"/do/*\" body: \"*\""), &["PLACE"]);
    check(&http("post: \"/do/it:now\" body: \"*\""), &["PLACE"]);
    check(&http("post: \"/do/{who}\" body: \"*\""), &["PLACE"]);
    check(&http("post: \"/do/{inner}\" body: \"*\""), &["PLACE"]);
    check(&http("post: \"/do/{id.x}\" body: \"*\""), &["PLACE"]);
    check(&http("post: \"/do/{inners.id}\" body: \"*\""), &["PLACE"]);
    check(&http("post: \"/do/{a}\" body: \"*\""), &["PLACE"]);
    check(&http("post: \"/do/{id}/{id}\" body: \"*\""), &["PLACE"]);
    check(&http("post: \"/do/x{id}\" body: \"*\""), &["PLACE"]);
    check(&http("post: \"/do/{id=things/*}\" body: \"*\""), &["PLACE"]);
    check(&http("post: \"/do/{id=**}/more\" body: \"*\""), &["PLACE"]);
    check(&http("post: \"/do\" body: \"whom\""), &["PLACE"]);
    check(&http("post: \"/do\" body: \"a\""), &["PLACE"]);
    check(&http("post: \"/do\" body: \"*\" response_body: \"what\""), &["PLACE"]);
    check(&http("get: \"/do\""), &["PLACE"]);
}

#[test]
fn two_methods_of_one_path() {
    let contract = "service S {
rpc A(Request) returns (Reply) { option (google.api.http) = {post: \"/do/{id}\" body: \"*\"}; }
rpc B(Request) returns (Reply) { option (google.api.http) = {put: \"/do/{id}\" body: \"*\"}; }
}
service T {
rpc C(Request) returns (Reply) { option (google.api.http) = {post: \"/do/{inner.id}\" body: \"*\"}; }
}
";
    check(&format!("{contract}{MESSAGES}"), &["PLACE"]);
}

#[test]
fn headers_and_cookies() {
    let bound = |fields: &str| {
        format!("service S {{ rpc Do(Request) returns (Request); }}\nmessage Request {{\n{fields}\n}}\n")
    };
    check(&field("string x = 1 [(mosaic.v1.field).header = \"x-a\"];"), &["PLACE"]);
    check(&bound("int32 x = 1 [(mosaic.v1.field).header = \"x-a\"];"), &["PLACE"]);
    check(&bound("string x = 1 [(mosaic.v1.field).header = \"X-A\"];"), &["PLACE"]);
    check(
        &bound(
            "string x = 1 [(mosaic.v1.field).header = \"x-a\"];\nstring y = 2 [(mosaic.v1.field).header = \"x-a\"];",
        ),
        &["PLACE"],
    );
    check(
        &bound("string x = 1 [(mosaic.v1.field).cookie = {name: \"a b\" path: \"x\" max_age: \"7\"}];"),
        &["PLACE"],
    );
    check(
        &bound("string x = 1 [(mosaic.v1.field).cookie = {name: \"a\"}];"),
        &["PLACE"],
    );
    check(
        "service S { rpc Do(Empty) returns (stream Item); }\nmessage Item {\nstring x = 1 [(mosaic.v1.field).header = \"x-a\"];\n}",
        &["PLACE"],
    );
}

#[test]
fn rules() {
    check(
        &field("string x = 1 [(buf.validate.field).string.address = true];"),
        &["PLACE"],
    );
    check(
        &field("string x = 1 [(buf.validate.field).string.pattern = \"(\"];"),
        &["PLACE"],
    );
    check(&field("string x = 1 [(buf.validate.field).int32.gt = 1];"), &["PLACE"]);
    check(
        &field("int32 x = 1 [(buf.validate.field).int32 = {gt: 5 lt: 1}];"),
        &["PLACE"],
    );
    check(&field("float x = 1 [(buf.validate.field).float.gt = inf];"), &["PLACE"]);
    check(
        &field("string x = 1 [(buf.validate.field).cel = {expression: \"true\"}];"),
        &["PLACE"],
    );
    check(
        &field("repeated string x = 1 [(buf.validate.field).repeated.items.cel_expression = \"true\"];"),
        &["PLACE"],
    );
    check(
        &field("repeated double x = 1 [(buf.validate.field).repeated.unique = true];"),
        &["PLACE"],
    );
    check(
        &field("repeated string x = 1 [(buf.validate.field).repeated.items.required = true];"),
        &["PLACE"],
    );
    check(
        &field("option (buf.validate.message).cel_expression = \"true\";"),
        &["PLACE"],
    );
}

#[test]
fn all_mistakes_are_named_at_once() {
    let contract = "message M {
  string x = 1 [(buf.validate.field).cel_expression = \"true\"];
  string y = 2 [(buf.validate.field).cel_expression = \"true\"];
}";
    check(contract, &["PLACE"]);
}

#[test]
fn files() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let generate = |text: &str| {
        fs::write(folder.path().join("x.proto"), text).expect("a file");
        let error = Builder::new(folder.path())
            .generate(&["x.proto"])
            .expect_err("the contract is wrong");
        error.to_string().replace(&format!("{}/", folder.path().display()), "")
    };
    assert_eq!(generate("syntax = \"proto3\";\nmessage M {}"), "PLACE");
    assert_eq!(generate("syntax = \"proto2\";\npackage a;"), "PLACE");
    let error = Builder::new(folder.path())
        .generate(&["y.proto"])
        .expect_err("no such file");
    assert_eq!(error.to_string(), "PLACE");
}
