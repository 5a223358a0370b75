//! Forks of the application while this module has changed process state.

use std::ffi::c_int;

type Handler = extern "C" fn();

unsafe extern "C" {
    fn pthread_atfork(
        before: Option<Handler>,
        in_parent: Option<Handler>,
        in_child: Option<Handler>,
    ) -> c_int;
}

/// Calls `handler` in the child of each fork(2) from now on, but not of vfork(2) or posix_spawn(3). A handler in the parent would
/// be unsafe: another thread may unload the module, and glibc does not wait for a handler that runs. (musl unloads nothing.)
pub(crate) fn in_each_child(handler: Handler) {
    // SAFETY: the handler is a function of this module that is safe in a child. Without memory it is not registered.
    unsafe { pthread_atfork(None, None, Some(handler)) };
}
