//! A host that forks while this module has changed something of the whole process.

use std::ffi::c_int;

type Handler = extern "C" fn();

unsafe extern "C" {
    fn pthread_atfork(
        before: Option<Handler>,
        in_parent: Option<Handler>,
        in_child: Option<Handler>,
    ) -> c_int;
}

/// Has this called in the child of each fork from now on. In a child alone: a parent's other threads may unload the module meanwhile,
/// after which glibc calls it no more, but does not wait for a call that has begun. (musl unloads nothing.) Whoever starts a program by
/// vfork(2) or posix_spawn(3) does not call it.
pub(crate) fn in_each_child(handler: Handler) {
    // SAFETY: a function of this module, which does in a child what may be done there. Without memory for that it is not called.
    unsafe { pthread_atfork(None, None, Some(handler)) };
}
