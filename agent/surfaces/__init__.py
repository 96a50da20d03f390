"""The ways in: command line, server, MCP, LlamaIndex, LangChain. Nothing imports a surface."""
