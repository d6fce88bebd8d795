#include "cli/cli.h"

#include "cli/commands.h"

static const struct command commands[] = {
	{"experiment", cmd_experiment, "run one experiment and store its result"},
	{"campaign", cmd_campaign, "run several experiments, one after the other"},
	{"results", cmd_results, "list, show, compare, export stored results"},
	{"config", cmd_config, "check and explain configuration files"},
	{"gpus", cmd_gpus, "list the GPUs of this host and what to write in gpus:"},
	{"doctor", cmd_doctor, "check this host: GPUs, containers, energy counters"},
	{"bench", cmd_bench, "how fast and how exact this host's load client is"},
	{"model", cmd_model, "list, describe and make model files"},
	{"help", cmd_help, "this text"},
	{"version", cmd_version, "version of the program and of its result documents"},
};

int cmd_version(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	printf("lem %s (lem.result/1)\n", LEM_VERSION);
	return CLI_OK;
}

int cmd_help(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	puts("lem measures what an LLM deployment costs: joules, seconds, FLOPs per token.\n\n"
	     "usage: lem COMMAND [OPTION…]\n");
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		printf("  %-12s %s\n", commands[i].name, commands[i].help);
	puts("\n'lem COMMAND --help' says more. Start with: lem experiment "
	     "configs/examples/quickstart.yaml");
	return CLI_OK;
}

static const struct command *find(const char *name)
{
	if (str_eq(name, "--version") || str_eq(name, "-V"))
		name = "version";
	if (str_eq(name, "--help") || str_eq(name, "-h"))
		name = "help";
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		if (str_eq(commands[i].name, name))
			return &commands[i];
	return NULL;
}

int main(int argc, char **argv)
{
	const struct command *c;

	if (argc < 2) {
		cmd_help(0, NULL);
		return CLI_REFUSED;
	}
	c = find(argv[1]);
	if (!c)
		return cli_usage(NULL, "there is no command '%s'", argv[1]);
	int rc = c->run(argc - 1, argv + 1);

	/* A full disk or a closed pipe behind stdout must not look like success. */
	if (fflush(stdout) != 0 && rc == CLI_OK) {
		fprintf(stderr, "lem: cannot write the output: %s\n", strerror(errno));
		return CLI_FAILED;
	}
	return rc;
}
