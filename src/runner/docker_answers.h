/*
 * docker_answers.h — reading the JSON that a container engine answers. Pure: text in, plain structs
 * out, strings in the arena. Unknown fields are ignored, absent ones are NULL, 0 or false; a wrong
 * type counts as absent. LEM_E_PARSE when the text is not JSON, or lacks what nothing works
 * without.
 */
#ifndef LEM_RUNNER_DOCKER_ANSWERS_H
#define LEM_RUNNER_DOCKER_ANSWERS_H

#include "runner/docker_api.h"

int docker_parse_info(const char *text, struct arena *a, struct docker_info *ret,
		      struct lem_error *err);
int docker_parse_image(const char *text, struct arena *a, struct docker_image *ret,
		       struct lem_error *err);
int docker_parse_state(const char *text, struct arena *a, struct docker_state *ret,
		       struct lem_error *err);
int docker_parse_stats(const char *text, struct docker_stats *ret, struct lem_error *err);
int docker_parse_list(const char *text, struct arena *a, struct docker_listed **ret, size_t *ret_n,
		      struct lem_error *err);
int docker_parse_id(const char *text, struct arena *a, const char **ret_id, struct lem_error *err);
int docker_parse_exit_code(const char *text, int64_t *ret, struct lem_error *err);

/* {"message": …} of an error answer, or the text itself, shortened; never NULL. */
const char *docker_parse_message(const char *text, struct arena *a);

/* One line of a pull's progress. */
struct docker_pull_line {
	const char *error;  /* NULL: none */
	const char *status; /* "Downloading", …; may be NULL */
	const char *layer;  /* id; may be NULL */
	uint64_t done, total;
};
int docker_parse_pull_line(const char *text, struct arena *a, struct docker_pull_line *ret,
			   struct lem_error *err);

#endif
