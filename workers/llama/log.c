#include "worker.h"

static char first_error[256];

static void take(enum ggml_log_level level, const char *text, void *arg)
{
	(void)arg;
	if (level == GGML_LOG_LEVEL_DEBUG)
		return;
	fputs(text, stderr);
	if (level == GGML_LOG_LEVEL_ERROR && !first_error[0]) {
		lem_strlcpy(first_error, text, sizeof(first_error));
		first_error[strcspn(first_error, "\r\n")] = '\0';
	}
}

void log_start(void)
{
	llama_log_set(take, NULL);
}

void log_reset(void)
{
	first_error[0] = '\0';
}

const char *log_first_error(void)
{
	return first_error[0] ? first_error : "it gives no reason";
}
