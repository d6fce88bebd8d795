/*
 * commands.h — every command's entry point; one file per command (cmd_NAME.c).
 */
#ifndef LEM_CLI_COMMANDS_H
#define LEM_CLI_COMMANDS_H

int cmd_bench(int argc, char **argv);
int cmd_campaign(int argc, char **argv);
int cmd_config(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_experiment(int argc, char **argv);
int cmd_gpus(int argc, char **argv);
int cmd_help(int argc, char **argv);
int cmd_model(int argc, char **argv);
int cmd_results(int argc, char **argv);
int cmd_version(int argc, char **argv);

#endif
