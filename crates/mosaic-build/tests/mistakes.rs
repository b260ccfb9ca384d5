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
    check(
        "message M { strin x = 1; }",
        &["x.proto:10:13: name 'strin' is not defined"],
    );
    check("message {", &["x.proto:10:9: expected an identifier, but found '{'"]);
    check(
        "message M {}\nimport \"missing.proto\";",
        &["x.proto:11:1: import 'missing.proto' not found"],
    );
    check(
        "service S {\nrpc Do(stream Empty) returns (Empty);\n}",
        &["x.proto:11:1: client streaming is not supported"],
    );
    check(
        "service S {\nrpc Do(google.protobuf.Timestamp) returns (Empty);\n}",
        &["x.proto:11:8: google.protobuf.Timestamp cannot be a request or an answer: wrap it in a message"],
    );
    check(
        &field("google.protobuf.Any x = 1;"),
        &["x.proto:11:1: the type google.protobuf.Any is not supported"],
    );
    check(
        &field("string x = 1;\nstring y = 2 [json_name = \"x\"];"),
        &["x.proto:12:8: a field with JSON name 'x' is already defined"],
    );
}

#[test]
fn options_of_methods() {
    let ours = |text: &str| method(&format!("option (mosaic.v1.method) = {{{text}}};"));
    check(
        &ours("acess: PUBLIC"),
        &[
            "x.proto:12:1: invalid value of type 'mosaic.v1.MethodOptions' for option '(mosaic.v1.method)': field 'acess' not found for message 'mosaic.v1.MethodOptions'",
        ],
    );
    check(
        &ours("access: EVERYBODY"),
        &[
            "x.proto:12:1: invalid value of type 'mosaic.v1.MethodOptions' for option '(mosaic.v1.method)': value 'EVERYBODY' was not found for enum 'mosaic.v1.MethodOptions.Access'",
        ],
    );
    check(
        &ours("access: ROLE"),
        &["x.proto:12:1: access: ROLE needs a role: \"...\""],
    );
    check(
        &ours("access: PUBLIC role: \"admin\""),
        &["x.proto:12:1: a role needs access: ROLE"],
    );
    check(
        &ours("timeout: \"2 seconds\""),
        &["x.proto:12:1: timeout: `2 seconds` is no duration as in 500ms, 2s, 1m, 6h, 7d"],
    );
    check(
        &ours("rate {calls: 0 per: \"1m\"}"),
        &["x.proto:12:1: rate: calls must be at least 1"],
    );
    check(
        &ours("rate {calls: 1}"),
        &["x.proto:12:1: rate: per: `` is no duration as in 500ms, 2s, 1m, 6h, 7d"],
    );
    check(
        &method(
            "option (mosaic.v1.method) = {access: INTERNAL};\noption (google.api.http) = {post: \"/do\" body: \"*\"};",
        ),
        &["x.proto:12:1: an INTERNAL method may have no google.api.http rule"],
    );
}

#[test]
fn http_rules() {
    let http = |text: &str| method(&format!("option (google.api.http) = {{{text}}};"));
    check(&http("body: \"*\""), &["x.proto:12:1: the HTTP rule names no verb"]);
    check(&http("get: \"/do\" body: \"*\""), &["x.proto:12:1: GET has no body"]);
    check(
        &http("post: \"do\" body: \"*\""),
        &["x.proto:12:1: path `do`: must begin with a slash"],
    );
    check(
        &http("post: \"/do//it\" body: \"*\""),
        &["x.proto:12:1: path `/do//it`: has an empty segment"],
    );
    check(
        &http("post: \"/do/*\" body: \"*\""),
        &[
            "x.proto:12:1: path `/do/*`: segment `*` is not plain text (wildcards need a name; `:verb` is not supported)",
        ],
    );
    check(
        &http("post: \"/do/it:now\" body: \"*\""),
        &[
            "x.proto:12:1: path `/do/it:now`: segment `it:now` is not plain text (wildcards need a name; `:verb` is not supported)",
        ],
    );
    check(
        &http("post: \"/do/{who}\" body: \"*\""),
        &["x.proto:12:1: path `/do/{who}`: variable `who`: bad.v1.Request has no field `who`"],
    );
    check(
        &http("post: \"/do/{inner}\" body: \"*\""),
        &["x.proto:12:1: path `/do/{inner}`: variable `inner` is a message"],
    );
    check(
        &http("post: \"/do/{id.x}\" body: \"*\""),
        &["x.proto:12:1: path `/do/{id.x}`: variable `id.x` goes through a field that is no message"],
    );
    check(
        &http("post: \"/do/{inners.id}\" body: \"*\""),
        &["x.proto:12:1: path `/do/{inners.id}`: variable `inners.id` is repeated, a map or in a oneof"],
    );
    check(
        &http("post: \"/do/{a}\" body: \"*\""),
        &["x.proto:12:1: path `/do/{a}`: variable `a` is repeated, a map or in a oneof"],
    );
    check(
        &http("post: \"/do/{id}/{id}\" body: \"*\""),
        &["x.proto:12:1: path `/do/{id}/{id}`: variable `id` is there twice"],
    );
    check(
        &http("post: \"/do/x{id}\" body: \"*\""),
        &["x.proto:12:1: path `/do/x{id}`: `x{id}`: a variable must be a whole segment"],
    );
    check(
        &http("post: \"/do/{id=things/*}\" body: \"*\""),
        &["x.proto:12:1: path `/do/{id=things/*}`: `{id=things/..`: only {name}, {name=*} and {name=**} are supported"],
    );
    check(
        &http("post: \"/do/{id=**}/more\" body: \"*\""),
        &["x.proto:12:1: path `/do/{id=**}/more`: `{id=**}` must be last"],
    );
    check(
        &http("post: \"/do\" body: \"whom\""),
        &["x.proto:12:1: body: bad.v1.Request has no field `whom`"],
    );
    check(
        &http("post: \"/do\" body: \"a\""),
        &["x.proto:12:1: body: `a` is in a oneof"],
    );
    check(
        &http("post: \"/do\" body: \"*\" response_body: \"what\""),
        &["x.proto:12:1: response_body: bad.v1.Reply has no field `what` outside a oneof"],
    );
    check(
        &http("get: \"/do\""),
        &[
            "x.proto:18:3: `inners` cannot be a query parameter of GET /do: repeated messages, maps, members of oneofs and deep nesting need a body",
            "x.proto:19:29: `b` cannot be a query parameter of GET /do: repeated messages, maps, members of oneofs and deep nesting need a body",
        ],
    );
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
    check(
        &format!("{contract}{MESSAGES}"),
        &["x.proto:15:34: POST /do/{inner.id} is also the path of bad.v1.S.A"],
    );
}

#[test]
fn headers_and_cookies() {
    let bound = |fields: &str| {
        format!("service S {{ rpc Do(Request) returns (Request); }}\nmessage Request {{\n{fields}\n}}\n")
    };
    check(
        &field("string x = 1 [(mosaic.v1.field).header = \"x-a\"];"),
        &["x.proto:11:15: header x-a: only the request or the answer of a method is bound"],
    );
    check(
        &bound("int32 x = 1 [(mosaic.v1.field).header = \"x-a\"];"),
        &["x.proto:12:14: header x-a: only a single string can be bound"],
    );
    check(
        &bound("string x = 1 [(mosaic.v1.field).header = \"X-A\"];"),
        &["x.proto:12:15: `X-A` is no header name in lower case"],
    );
    check(
        &bound(
            "string x = 1 [(mosaic.v1.field).header = \"x-a\"];\nstring y = 2 [(mosaic.v1.field).header = \"x-a\"];",
        ),
        &["x.proto:13:15: header x-a is bound twice"],
    );
    check(
        &bound("string x = 1 [(mosaic.v1.field).cookie = {name: \"a b\" path: \"x\" max_age: \"7\"}];"),
        &[
            "x.proto:12:15: `a b` is no cookie name",
            "x.proto:12:15: `x` is no cookie path",
            "x.proto:12:15: max_age: `7` is no duration as in 500ms, 2s, 1m, 6h, 7d",
        ],
    );
    check(
        &bound("string x = 1 [(mosaic.v1.field).cookie = {name: \"a\"}];"),
        &["x.proto:12:15: the cookie of an answer needs a max_age"],
    );
    check(
        "service S { rpc Do(Empty) returns (stream Item); }\nmessage Item {\nstring x = 1 [(mosaic.v1.field).header = \"x-a\"];\n}",
        &["x.proto:12:15: an answer of a stream has no headers and cookies"],
    );
}

#[test]
fn rules() {
    check(
        &field("string x = 1 [(buf.validate.field).string.address = true];"),
        &["x.proto:11:15: option field '(buf.validate.field).string.address' is not defined"],
    );
    check(
        &field("string x = 1 [(buf.validate.field).string.pattern = \"(\"];"),
        &["x.proto:11:15: rule string.pattern: `(` is no regular expression: error: unclosed group"],
    );
    check(
        &field("string x = 1 [(buf.validate.field).int32.gt = 1];"),
        &["x.proto:11:15: rules of int32 do not fit `x`"],
    );
    check(
        &field("int32 x = 1 [(buf.validate.field).int32 = {gt: 5 lt: 1}];"),
        &["x.proto:11:14: rule int32: no value is above 5 and below 1"],
    );
    check(
        &field("float x = 1 [(buf.validate.field).float.gt = inf];"),
        &[
            "x.proto:11:14: expected a value of type 'float' for option '(buf.validate.field).float.gt', but found 'inf'",
        ],
    );
    check(
        &field("string x = 1 [(buf.validate.field).cel = {expression: \"true\"}];"),
        &["x.proto:11:15: rule cel is not supported"],
    );
    check(
        &field("repeated string x = 1 [(buf.validate.field).repeated.items.cel_expression = \"true\"];"),
        &["x.proto:11:24: rule cel_expression is not supported"],
    );
    check(
        &field("repeated double x = 1 [(buf.validate.field).repeated.unique = true];"),
        &["x.proto:11:24: rule repeated.unique does not fit messages and floats"],
    );
    check(
        &field("repeated string x = 1 [(buf.validate.field).repeated.items.required = true];"),
        &["x.proto:11:24: required and ignore of items are not supported"],
    );
    check(
        &field("option (buf.validate.message).cel_expression = \"true\";"),
        &["x.proto:11:1: rules of a whole message are not supported"],
    );
}

#[test]
fn all_mistakes_are_named_at_once() {
    let contract = "message M {
  string x = 1 [(buf.validate.field).cel_expression = \"true\"];
  string y = 2 [(buf.validate.field).cel_expression = \"true\"];
}";
    check(
        contract,
        &[
            "x.proto:11:17: rule cel_expression is not supported",
            "x.proto:12:17: rule cel_expression is not supported",
        ],
    );
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
    assert_eq!(
        generate("syntax = \"proto3\";\nmessage M {}"),
        "x.proto:1:1: a package is needed"
    );
    assert_eq!(
        generate("syntax = \"proto2\";\npackage a;"),
        "x.proto:1:1: only proto3 is supported"
    );
    let error = Builder::new(folder.path())
        .generate(&["y.proto"])
        .expect_err("no such file");
    let want = format!("{}: file 'y.proto' is not in any include path", folder.path().display());
    assert_eq!(error.to_string(), want);
}
