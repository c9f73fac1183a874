//! Bodies on their way: the request's, which a further attempt can have again from its beginning, and
//! the response's, which carries what has to happen at its end.

mod request;
mod response;

pub(crate) use request::{AttemptBody, RequestBody, UploadError, UploadLimits};
pub(crate) use response::ResponseBody;
