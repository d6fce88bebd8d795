#include "load/worker_events.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	_cleanup_free_ char *line = lem_strndup((const char *)data, size);
	int64_t ids[8], started[8];
	struct worker_step step = {.ids = ids, .started = started, .cap = 8};
	struct worker_loaded loaded;
	struct worker_done done;
	enum worker_event kind;
	struct lem_error err;

	if (worker_parse_tokens((const char *)data, size, &step, &err) >= 0)
		assert(step.n_ids <= 8 && step.n_started <= 8 && step.start_ns >= 0);
	if (worker_event_kind(line, &kind, &err) < 0)
		return 0;
	worker_parse_error(line, &err);
	if (worker_parse_loaded(line, &a, &loaded, &err) >= 0)
		assert(loaded.engine_name && loaded.shape.n_layer >= 0);
	if (worker_parse_done(line, &a, &done, &err) >= 0)
		for (size_t i = 0; i < done.n_results; i++)
			assert(done.results[i].output_tokens >= 0);
	return 0;
}
